"""What forges send when somebody has pushed: whether it is theirs, and to which repository.

Sources: GitHub's "Webhook events and payloads" and "Validating webhook deliveries", Gitea's and
Forgejo's "Webhooks", GitLab's "Webhook events". Pure functions; ``poke`` is told the result.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qs

import msgspec

from mizzen.model.errors import Failure

SIGNATURES = ("x-hub-signature-256", "x-forgejo-signature", "x-gitea-signature")
"""Headers that hold an HMAC-SHA256 of the body, in hex."""

TOKEN = "x-gitlab-token"
"""The header in which GitLab sends the secret itself."""

EVENTS = ("x-github-event", "x-forgejo-event", "x-gitea-event", "x-gitlab-event")

PUSHES = frozenset({"push", "push hook", "tag push hook"})

_Url = str | None


class _Repository(msgspec.Struct, frozen=True):
    """A repository in a payload: GitHub's, Gitea's and Forgejo's names of its URLs, GitLab's."""

    clone_url: _Url = None
    ssh_url: _Url = None
    git_url: _Url = None
    html_url: _Url = None
    git_http_url: _Url = None
    git_ssh_url: _Url = None
    web_url: _Url = None
    homepage: _Url = None


class _Payload(msgspec.Struct, frozen=True):
    repository: _Repository | None = None
    project: _Repository | None = None


def signed(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Return whether a request was made by somebody who knows the secret; nobody knows ""."""
    if not secret:
        return False
    given = _lower(headers)
    if TOKEN in given:
        return hmac.compare_digest(given[TOKEN].encode(), secret.encode())
    wanted = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().encode()
    said = next((given[name] for name in SIGNATURES if name in given), "")
    return hmac.compare_digest(said.removeprefix("sha256=").encode(), wanted)


def pushed(headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
    """Return all URLs of the repository that was pushed to; none if it tells of something else.

    Raises Failure for a body that is no push's.
    """
    given = _lower(headers)
    event = next((given[name] for name in EVENTS if name in given), "")
    if event.lower() not in PUSHES:
        return ()
    what = "cannot read the webhook"
    if given.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        body = _from_form(body)
    try:
        payload = msgspec.json.decode(body, type=_Payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(what, str(error), "send JSON, as a forge does") from error
    found: dict[str, None] = {}
    for repository in (payload.repository, payload.project):
        if repository is not None:
            found |= {url: None for url in msgspec.structs.astuple(repository) if url}
    if not found:
        raise Failure(what, "it names no repository", "send what a forge sends")
    return tuple(found)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _from_form(body: bytes) -> bytes:
    """Return the JSON in a form, which is how GitHub sends it unless it is told otherwise."""
    try:
        return parse_qs(body, max_num_fields=8).get(b"payload", [b""])[0]
    except ValueError:
        return b""
