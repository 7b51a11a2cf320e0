"""The settings file: TOML, small, and strict about what it does not know."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import msgspec

from mizzen.host.files import explained
from mizzen.incidents.rules import LEVELS
from mizzen.model.errors import Failure


class Errors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What counts as an error; see ``mizzen.incidents.rules``.

    levels: of log lines that do. match: expressions of lines that do besides. ignore:
    expressions of messages that do not, whatever else says so.
    """

    levels: tuple[str, ...] = LEVELS
    match: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


class NetworkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where addresses come from.

    prefixes: those that released machines get addresses of, one of a family at most, where the
    network daemon is in use.
    """

    prefixes: tuple[str, ...] = ("10.70.0.0/24",)


class Webhooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may tell ``mizzen up`` that somebody has pushed.

    secret: what forges sign with; "" refuses them all.
    """

    secret: str = ""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that a user may set; every setting has a default."""

    errors: Errors = Errors()
    network: NetworkSettings = NetworkSettings()
    webhooks: Webhooks = Webhooks()


def settings_path() -> Path:
    """Return where the settings are: ``MIZZEN_CONFIG``, else the system's or the user's file."""
    env = os.environ
    if env.get("MIZZEN_CONFIG"):
        return Path(env["MIZZEN_CONFIG"]).absolute()
    if os.geteuid() == 0:
        return Path("/etc/mizzen/mizzen.toml")
    home = Path(env.get("HOME", "/"))
    return Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "mizzen" / "mizzen.toml"


def read_settings() -> Settings:
    """Read the settings; the defaults if there is no file and none was named.

    Raises Failure if the file cannot be read, or holds what no setting is.
    """
    path = settings_path()
    if not path.exists() and not os.environ.get("MIZZEN_CONFIG"):
        return Settings()
    what = "cannot read the settings"
    with explained(what):
        data = path.read_bytes()
    try:
        return msgspec.convert(tomllib.loads(data.decode()), Settings)
    except (ValueError, msgspec.ValidationError) as error:
        raise Failure(what, f"{path}: {_readable(str(error))}", "mend it") from error


_PLACED = re.compile(r"(?P<said>.*) - at `\$\.?(?P<where>.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")


def _readable(said: str) -> str:
    """Turn msgspec's words into those of a settings file: "there is no setting errors.foo"."""
    placed = _PLACED.fullmatch(said)
    said, where = (placed["said"], placed["where"]) if placed else (said, "")
    unknown = _UNKNOWN.fullmatch(said)
    if unknown is not None:
        return f"there is no setting {'.'.join(filter(None, (where, unknown[1])))}"
    return f"{where}: {said}" if where else said
