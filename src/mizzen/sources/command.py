"""Running git: without asking anybody, and with its complaints understood."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mizzen.engine.operation import TemporaryFailure
from mizzen.host import process
from mizzen.model.errors import Failure

from .repository import PROTOCOLS, shown

FOREIGN = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_WORK_TREE",
)
"""What is in the environment of a hook, and names a repository that is not meant."""

SETTINGS = (
    "core.hooksPath=/dev/null",  # what a user's own hooks do is not meant for mirrors
    "core.fsmonitor=false",
    "fetch.unpackLimit=1",  # whole packs: of a killed fetch, no commit is there without its files
    "gc.autoDetach=false",  # nothing of a job outlives it
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
)

ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",  # its complaints are read
    "SSH_ASKPASS_REQUIRE": "never",
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What git says, and what that means. temporary: whether it may go by itself."""

    pattern: str
    why: str
    fix: str = ""
    temporary: bool = False


_COMPLAINTS = (
    Complaint(
        r"detected dubious ownership in repository at '(?P<it>.*)'",
        "it belongs to another user, whose settings git does not trust",
        "run: git config --global --add safe.directory {it}",
    ),
    Complaint(
        r"Host key verification failed",
        "its host is not known to ssh",
        "connect to it once with ssh, or add it to ~/.ssh/known_hosts",
    ),
    Complaint(
        r"Authentication failed|could not read (?:Username|Password)|Permission denied \("
        r"|returned error: 40[13]|HTTP Basic: Access denied",
        "it does not let this user in",
        "give git credentials that it finds without asking: a credential helper, or an ssh key",
    ),
    Complaint(
        r"not our ref|unadvertised object|couldn't find remote ref",
        "it has no such commit",
        "see that it was pushed there, and is on a branch still",
    ),
    Complaint(r"No space left on device|Disk quota exceeded", "{line}", "free some disk space"),
    Complaint(
        r"cannot change to '.*': No such file|does not appear to be a git repository"
        r"|[Rr]epository .*not found|repository not exported|does not exist|returned error: 404"
        r"|not a git repository|no such repository|could not be found"
        r"|Could not find repository",
        "there is no repository",
        "see that its name is right and that it still exists",
    ),
    Complaint(
        r"ould not resolve host|emporary failure in name resolution|onnection refused"
        r"|onnection timed out|etwork is unreachable|o route to host|onnection reset"
        r"|onnection closed by|closed by remote host|peration timed out|hung up|early EOF"
        r"|RPC failed|returned error: (?:429|5\d\d)|unable to connect|[Ff]ailed to connect"
        r"|unable to look up|unexpected disconnect|Operation too slow|Empty reply|SSL_|gnutls_",
        "{line}",
        "see that its host can be reached",
        temporary=True,
    ),
)


async def git(
    *arguments: str | Path,
    what: str,
    repository: str,
    env: Mapping[str, str] | None = None,
    limit: float | None = None,
) -> bytes:
    """Run git and return what it writes.

    what: the beginning of a Failure's line. repository: which it is about.
    limit: seconds that it may take.
    Raises Failure, or TemporaryFailure where the network or the other side is to blame.
    """
    process.which("git")
    found = Complaint("", "")

    def explain(complaints: str) -> tuple[str, str]:
        nonlocal found
        found = understand(complaints)
        return found.why, found.fix

    settings = [word for setting in SETTINGS for word in ("-c", setting)]
    forget = [f"--unset={name}" for name in FOREIGN]
    assign = [f"{name}={value}" for name, value in {**ENVIRONMENT, **(env or {})}.items()]
    try:
        async with asyncio.timeout(limit) as timeout:
            done = await process.run(
                *("env", *forget, *assign),
                # Killed with this process: a lock in a mirror is then nobody's, see Mirror.
                *("setpriv", "--pdeathsig", "KILL"),
                *("git", *settings, *arguments),
                what=what,
                cwd=Path("/"),  # no repository that somebody else may have made
                explain=explain,
            )
    except TimeoutError:
        if not timeout.expired():
            raise
        why = f"there was no answer within {limit:g} s"
        raise TemporaryFailure(what, why, "see that its host can be reached") from None
    except Failure as failure:
        kind = TemporaryFailure if found.temporary else Failure
        told = kind(what, failure.why.replace(repository, shown(repository)), failure.fix)
        command = shlex.join(["git", *map(str, arguments)])
        for note in getattr(failure, "__notes__", ()):
            _, _, complaints = note.partition("\n")
            told.add_note(
                f"command: {command}\n{complaints}".replace(repository, shown(repository))
            )
        raise told from None
    return done.stdout


def understand(complaints: str) -> Complaint:
    """Return what git's complaints come to."""
    for complaint in _COMPLAINTS:
        found = re.search(complaint.pattern, complaints)
        if found is not None:
            said = {"line": _line_at(complaints, found.start()), **found.groupdict()}
            why, fix = complaint.why.format(**said), complaint.fix.format(**said)
            return Complaint("", why, fix, temporary=complaint.temporary)
    fatal = re.findall(r"^(?:fatal|error): (.*)", complaints, re.MULTILINE)
    words = fatal[0] if fatal else process.last_words(complaints.encode())
    return Complaint("", words or "git ended without a word")


def _line_at(text: str, place: int) -> str:
    line = text[text.rfind("\n", 0, place) + 1 :].partition("\n")[0]
    return re.sub(r"^(?:fatal|error|remote|ssh): ", "", line.strip().rstrip("."))
