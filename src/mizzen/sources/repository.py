"""What a repository's name says: a path, a URL, or host:path as ssh has it. Pure functions.

Names come from commits too, in ``.gitmodules``, so each is looked at before git is given it.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mizzen.host.paths import expanded
from mizzen.model.errors import Failure

PROTOCOLS = ("file", "git", "http", "https", "ssh")
"""What git may speak. Others run programs that the name chooses (gitremote-helpers(7))."""

_SCP = re.compile(r"(?P<host>[^/:]+|(?:[^/:]+@)?\[[^/\]]+\]):(?!:|//)(?P<path>.*)")
_NO_REF = re.compile(r"^$|[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^/|/$|(?:^|/)\.|\.\Z|\.lock(?:/|\Z)")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


def understood(name: str, folder: Path) -> str:
    """Return a repository's name, with a path made absolute.

    folder: what a path is relative to. Raises Failure for what git shall not be given.
    """
    what = f"cannot use repository {shown(name)!r}"
    fix = "name a folder of this host, or a URL that begins with https:// or ssh://"
    if not name or name.startswith("-"):
        raise Failure(what, "that is no name of a repository", fix)
    scheme, parted, _ = name.partition("://")
    if parted:
        if scheme not in PROTOCOLS:
            raise Failure(what, f"{scheme} is not spoken here", fix)
        if _CONTROL.search(name) or not _parsed(name):
            raise Failure(what, "that is no URL", fix)
        return name
    helper = re.match(r"([^/:]*)::", name)
    if helper is not None:
        raise Failure(what, f"it would run the program git-remote-{helper[1]}", fix)
    if _SCP.fullmatch(name):
        return name
    if "\0" in name or "\n" in name:
        raise Failure(what, "that is no path", fix)
    return str((folder / expanded(name)).resolve())


def is_ref(name: str) -> bool:
    """Return whether a branch or tag can have that name; see git-check-ref-format(1)."""
    return _NO_REF.search(name) is None


def local(name: str) -> Path | None:
    """Return the folder of a repository of this host; None if it is another's."""
    if name.startswith("file://"):
        return Path(unquote(urlsplit(name).path))
    return Path(name) if name.startswith("/") else None


def shown(name: str) -> str:
    """Return a name as others may read it: without the user and password of a URL."""
    scheme, parted, rest = name.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{parted}{host.rpartition('@')[2]}{slash}{path}" if parted else name


def same(name: str) -> str:
    """Return what the names of one repository have in common.

    https://host/path.git, git@host:path and ssh://git@host:2222/path/ are one; a port tells
    nothing, since each protocol has another. Letters' case neither, as forges have it.
    """
    _, parted, rest = shown(name).partition("://")
    if parted:
        host, _, path = rest.partition("/")
        host = re.sub(r":\d*$", "", host)
    elif (scp := _SCP.fullmatch(name)) is not None:
        host, path = scp["host"].rpartition("@")[2], scp["path"]
    else:
        host, path = "", name
    path = path.split("?")[0].split("#")[0].strip("/").removesuffix(".git").strip("/")
    return f"{host}/{path}".lower()


def submodule(base: str, url: str, *, path: str) -> str:
    """Return the repository of a submodule.

    base: the repository it is in. url, path: as ``.gitmodules`` has them.
    Raises Failure for what a commit must not choose: a program, or a folder of this host that
    is not beside the repository, which would put any of its files into a build.
    """
    if url.startswith(("./", "../")):
        url = _relative(base, url)
    name = understood(url, Path("/"))
    here = local(name)
    if here is not None:
        home = local(base)
        if home is None or not here.resolve().is_relative_to(home.resolve().parent):
            raise Failure(
                f"cannot take submodule {path} of {shown(base)}",
                f"a commit may not choose a folder of this host, {here}",
                "publish it by https or ssh, or put it beside the repository",
            )
    return name


def _relative(base: str, url: str) -> str:
    """Resolve a URL that begins with ./ or ../, as git-submodule(1) does."""
    scheme, parted, rest = base.partition("://")
    if parted:
        host, _, path = rest.partition("/")
        start = f"{scheme}://{host}/"
    elif (scp := _SCP.fullmatch(base)) is not None:
        path = scp["path"]
        start = f"{scp['host']}:{'/' if path.startswith('/') else ''}"
    else:
        start, path = "/", base
    parts = [part for part in path.split("/") if part]
    for part in url.split("/"):
        if part == ".." and not parts:
            what = f"cannot use submodule {url} of {shown(base)}"
            raise Failure(what, "it leads out of its host", "mend .gitmodules")
        if part == "..":
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    return start + "/".join(parts)


def _parsed(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises, too
    except ValueError:
        return False
    return bool(parts.hostname or parts.scheme == "file")
