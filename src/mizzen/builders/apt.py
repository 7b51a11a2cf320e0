"""Packages of any Debian suite, through apt, without touching the host's apt.

apt runs with lists, cache and sources of its own below Mizzen's cache, so it needs no root and
can fetch trixie's packages on bookworm. Every package is checked against Debian's keyring. The
mirror, proxy and certificates are the host's.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.files import explained, turn
from mizzen.host.paths import Folders
from mizzen.host.process import last_words, run
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, Report

DEFAULT_MIRROR = "http://deb.debian.org/debian"
DEFAULT_SECURITY = "http://deb.debian.org/debian-security"
DEFAULT_SUITE = "bookworm"
"""Taken on hosts that are no Debian."""

KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
SUITE = re.compile(r"[a-z][a-z0-9-]{0,40}")
STATUS = re.compile(r"dlstatus:\d+:([0-9.]+):")


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Where Debian's archive is reached. security: None where the host uses none."""

    main: str
    security: str | None


@dataclass(frozen=True, slots=True)
class Archive:
    """A suite whose lists are up to date. config: apt's configuration file."""

    suite: str
    config: Path
    sources: Path


def parse_targets(text: str, suite: str) -> Mirrors:
    """Choose mirrors from ``apt-get indextargets`` in the form ``ORIGIN CODENAME REPO_URI``."""
    rows = [line.split() for line in text.splitlines()]
    debian = {row[1]: row[2].rstrip("/") for row in rows if len(row) == 3 and row[0] == "Debian"}
    debian = {name: uri for name, uri in debian.items() if not uri.startswith("cdrom:")}
    plain = [name for name in debian if not name.endswith(("-security", "-updates", "-backports"))]
    if not plain:
        return Mirrors(DEFAULT_MIRROR, DEFAULT_SECURITY)
    main = debian[suite if suite in plain else plain[0]]
    return Mirrors(main, next((debian[x] for x in debian if x.endswith("-security")), None))


def source_lines(mirrors: Mirrors, suite: str, keyring: Path) -> list[str]:
    """Return a suite's sources.list; unstable suites and backports stand alone."""
    options = f"[signed-by={keyring}]"
    lines = [f"deb {options} {mirrors.main} {suite} main"]
    if suite not in {"sid", "unstable", "experimental"} and not suite.endswith("-backports"):
        lines.append(f"deb {options} {mirrors.main} {suite}-updates main")
        if mirrors.security:
            lines.append(f"deb {options} {mirrors.security} {suite}-security main")
    return lines


def configuration(folder: Path, acquire: str) -> str:
    """Return apt's configuration for lists and sources in a folder.

    acquire: the host's ``Acquire::`` settings, as apt-config dumps them.
    """
    kept = [line for line in acquire.splitlines() if line.startswith("Acquire::")]
    settings = {
        "Dir::State": folder / "state",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",  # the host's hooks would delete downloads or call others
        "Dir::Etc::trusted": "/dev/null",
        "Dir::Etc::trustedparts": "/dev/null",
        # The user _apt may not reach the cache; what comes down is verified all the same.
        "APT::Sandbox::User": "root",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": "2",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
    }
    own = [f'{key} "{value}";' for key, value in settings.items()]
    return "\n".join([*kept, *own]) + "\n"


def host_suite(os_release: str) -> str:
    """Return the codename in /etc/os-release's text, ``DEFAULT_SUITE`` on hosts not Debian."""
    fields = dict(word.partition("=")[::2] for word in shlex.split(os_release, comments=True))
    if fields.get("ID") != "debian":
        return DEFAULT_SUITE
    return fields.get("VERSION_CODENAME") or DEFAULT_SUITE


def this_suite() -> str:
    """Return this host's suite."""
    release = Path("/etc/os-release")
    return host_suite(release.read_text() if release.is_file() else "")


def check_suite(suite: str) -> str:
    """Return suite if it can name one."""
    if not SUITE.fullmatch(suite):
        raise Failure(
            f"cannot use Debian suite {suite!r}", "no suite is called that", "try bookworm"
        )
    return suite


@contextlib.asynccontextmanager
async def archive(folders: Folders, report: Report, suite: str) -> AsyncIterator[Archive]:
    """Yield a suite with its lists up to date, for one user at a time as apt wants it.

    Raises Failure if the mirror cannot be reached or does not have the suite.
    """
    check_suite(suite)
    what = f"cannot read Debian {suite}'s package lists"
    folder = folders.cache / "apt" / suite
    task = f"reading package lists of Debian {suite}"
    sources = await _sources(suite, what)
    acquire = await run("apt-config", "dump", what=what)
    with explained(what):
        async with turn(folder / ".lock"):
            opened = _prepare(folder, suite, sources, acquire.text)
            await _apt(opened, "update", what=what, task=task, report=report)
            yield opened


def _prepare(folder: Path, suite: str, sources: str, acquire: str) -> Archive:
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(sources)
    (folder / "apt.conf").write_text(configuration(folder, acquire))
    return Archive(suite, folder / "apt.conf", folder / "sources.list")


async def for_others(suite: str, folder: Path, what: str) -> tuple[str, Path]:
    """Return a suite's sources and, written into folder, the host's proxy for another apt."""
    sources = await _sources(suite, what)
    dumped = await run("apt-config", "dump", what=what)
    kept = [line for line in dumped.text.splitlines() if line.startswith("Acquire::http")]
    settings = folder / "apt.conf"
    settings.write_text(
        "\n".join([*kept, 'Acquire::Languages "none";', 'APT::Sandbox::User "root";', ""])
    )
    return sources, settings


async def _sources(suite: str, what: str) -> str:
    keyring = next((path for path in KEYRINGS if path.exists()), None)
    if keyring is None:
        fix = "run: apt-get install debian-archive-keyring"
        raise Failure(what, "Debian's keyring is not installed", fix)
    return "\n".join(source_lines(await host_mirrors(suite), suite, keyring)) + "\n"


async def host_mirrors(suite: str) -> Mirrors:
    """Ask the host's apt which mirrors it uses."""
    form = "$(ORIGIN) $(CODENAME) $(REPO_URI)"
    found = await run(
        "apt-get", "indextargets", "--format", form, what="cannot read the host's apt sources"
    )
    return parse_targets(found.text, suite)


async def field(archive: Archive, package: str, name: str) -> str:
    """Return one field of a package's newest version, "" if it has none."""
    what = f"cannot find package {package} in Debian {archive.suite}"
    shown = await run(
        "apt-cache", "show", "--no-all-versions", package, what=what,
        env={"APT_CONFIG": str(archive.config)},
    )  # fmt: skip
    lines = (line.partition(": ") for line in shown.text.splitlines())
    return next((value for key, _, value in lines if key == name), "")


async def download(archive: Archive, package: str, into: Path, report: Report) -> Path:
    """Fetch a package, verified, into an empty folder; return its file."""
    what = f"cannot download {package}"
    task = f"downloading {package}"
    await _apt(archive, "download", package, what=what, task=task, report=report, cwd=into)
    return _only_package(into, what)


def _only_package(folder: Path, what: str) -> Path:
    found = list(folder.glob("*.deb"))
    if len(found) != 1:
        raise Failure(what, "apt left no package behind", "try again")
    return found[0]


async def _apt(
    archive: Archive, *arguments: str, what: str, task: str, report: Report, cwd: Path | None = None
) -> None:
    seen = 0

    def on_line(line: str) -> None:
        nonlocal seen
        found = STATUS.match(line)
        if found and (percent := int(float(found[1]))) > seen:
            seen = percent
            report(Progress(task, percent, 100))

    report(Progress(task, 0, 100))
    await run(
        "apt-get", "-q", "-o", "APT::Status-Fd=2", *arguments,
        what=what,
        env={"APT_CONFIG": str(archive.config), "LC_ALL": "C.UTF-8"},
        cwd=cwd,
        on_line=on_line,
        explain=explain,
    )  # fmt: skip
    report(Progress(task, 100, 100, finished=True))


def explain(stderr: str) -> tuple[str, str]:
    """Tell from apt's complaints why it failed, and what to do."""
    errors = [line[3:] for line in stderr.splitlines() if line.startswith("E: ")]
    why = errors[0] if errors else last_words(stderr.encode())
    if "No space left" in stderr:
        return why, "free some disk space"
    if "NO_PUBKEY" in stderr or "not signed" in stderr:
        return why, "run: apt-get install --only-upgrade debian-archive-keyring"
    if "does not have a Release file" in stderr or "404" in why:
        return why, "check the suite's name and that the mirror has it"
    return why, "check the network and the mirror in /etc/apt"
