"""Telling others what a pipeline has come to."""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from typing import Any, ClassVar

import msgspec

from mizzen.engine.graph import current
from mizzen.engine.job import Job
from mizzen.engine.operation import Publication, TemporaryFailure, encode
from mizzen.engine.policy import Level, Policy
from mizzen.engine.step import failed, step
from mizzen.engine.terms import Input, Term, caller, constant
from mizzen.host.posting import parsed, post
from mizzen.model.errors import Failure

__all__ = ["webhook"]

ANSWER_SECONDS = 30.0
"""How long a server may take to answer."""

LATER = frozenset({408, 425, 429})
"""Statuses below 500 by which a server asks to be tried again."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What was told. status: that it was answered with."""

    text: str
    status: int


class Webhook(Publication[Notification], frozen=True, kw_only=True):
    """What is told to an address."""

    id: ClassVar[str] = "notify webhook"
    # A message that is being sent is not taken back for the next one.
    policy: ClassVar[Policy] = Policy(level=Level.LOW, auto_cancel=False)
    repeatable: ClassVar[bool] = False
    pipeline: str
    name: str
    url: str
    text: str
    value: Any = None

    @property
    def key(self) -> str:
        """Return the name of these notifications, or a digest of their address: it is secret."""
        place = self.name or hashlib.sha256(self.url.encode()).hexdigest()[:12]
        return f"{self.pipeline} {place}"

    async def run(self, job: Job) -> Notification:
        """Send it."""
        parts = parsed(self.url)
        what = f"cannot notify {parts.hostname}"
        told = {"text": self.text, "pipeline": self.pipeline, "name": self.name}
        body = msgspec.json.encode({**told, "value": self.value})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await post(self.url, body, "application/json")
        except TimeoutError:
            why = f"it did not answer within {ANSWER_SECONDS:g} s"
            raise TemporaryFailure(what, why, "see that it runs") from None
        except OSError as error:
            raise _unreachable(what, error) from error
        except ValueError as error:
            raise Failure(what, str(error), "see that the address is right") from error
        job.log(f"{parts.hostname} answered {status}: {self.text}")
        if status < 300:
            return Notification(text=self.text, status=status)
        kind = TemporaryFailure if status >= 500 or status in LATER else Failure
        raise kind(what, f"it answered with status {status}", "see that the address is right")


def webhook(
    url: str,
    message: Input[str] | None = None,
    *,
    of: Term[object] | None = None,
    name: str = "",
) -> Term[Notification]:
    """Send a message to a web address whenever it is another.

    url: where to, http or https. It is not shown, since whoever knows it may write there.
    message: the text. of: a term whose value is sent along; without a message its text is sent.
    name: what tells these notifications from others to the same address.

    What is sent, by POST, is JSON: ``text``, which is what the incoming webhooks of Slack and
    Mattermost show, ``pipeline``, ``name`` and ``value``.

        notify.webhook(CHAT, source.short.map(lambda short: f"website {short} is live").gate(live))
        notify.webhook(CHAT, of=live.catch(), name="trouble")

    A network that is down, and status 408, 425, 429 and 5xx, are met by another attempt; any
    other status fails. If Mizzen is killed while it sends, nothing is sent again by itself.
    """
    label = name or url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    try:
        parsed(url)
    except ValueError as error:
        why = Failure(f"cannot notify {label}", str(error), f"mend {caller()}")
        return failed(f"{Webhook.id} {label}", why)
    if message is None and of is None:
        nothing = Failure(f"cannot notify {label}", "nothing is to be told", f"mend {caller()}")
        return failed(f"{Webhook.id} {label}", nothing)
    value: Term[object] = constant(None) if of is None else of
    text = value.map(str) if message is None else message
    return step(
        Webhook,
        label,
        pipeline=current().name,
        name=name,
        url=url,
        text=text,
        value=value.map(_plain),
    )


def _plain(value: object) -> Any:
    """Return a value as JSON has it."""
    return msgspec.to_builtins(value, enc_hook=_told, str_keys=True)


def _told(value: object) -> object:
    try:
        return encode(value)
    except NotImplementedError:
        return str(value)


def _unreachable(what: str, error: OSError) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(what, f"its certificate is not good: {error.verify_message}", "renew it")
    why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return TemporaryFailure(what, why.lower(), "see that it can be reached")
