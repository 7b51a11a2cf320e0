"""Services as they are written on a command line."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

from mizzen.model.errors import UsageError
from mizzen.model.machine import NAME
from mizzen.model.network import Transport
from mizzen.model.service import Probe, ProbeKind, ServicePort

NAME_MAX = 52
"""Characters of a service's name: a release's number and a dash must fit into a machine's."""

DRAIN_MAX = 24 * 3600.0
"""Seconds that draining may take."""


def check_name(name: str) -> str:
    """Return name if it can name a service. Raises UsageError otherwise."""
    if not NAME.fullmatch(name) or len(name) > NAME_MAX:
        raise UsageError(
            f"{name!r} cannot name a service",
            f"a name has 1 to {NAME_MAX} of a-z, 0-9 and -, and does not begin or end with -",
            "choose another",
        )
    return name


def parse_ports(ports: Sequence[str], addresses: Sequence[str]) -> tuple[ServicePort, ...]:
    """Read HOST:GUEST or HOST:GUEST/udp, each on all of the host's addresses that are given.

    Raises UsageError.
    """
    if not ports:
        raise UsageError("cannot publish nothing", "no port is named", "give --port HOST:GUEST")
    hosts = [_address(text) for text in addresses] or [""]
    read = tuple(replace(_port(text), address=host) for text in ports for host in hosts)
    check_once(read)
    return read


def check_once(ports: Sequence[ServicePort]) -> None:
    """Raise UsageError if a port of the host is named twice."""
    for one in ports:
        if sum(_key(one) == _key(other) for other in ports) > 1:
            raise UsageError(
                f"cannot publish port {one.port}/{one.transport}",
                "it is named twice",
                "name each port once",
            )


def parse_probe(text: str, base: Probe) -> Probe:
    """Read http:/PATH, tcp, command:COMMAND or none into a probe. Raises UsageError.

    base: has all other fields.
    """
    kind, colon, rest = text.partition(":")
    if kind == "http" and _is_path(rest):
        return replace(base, kind=ProbeKind.HTTP, path=rest)
    if kind == "command" and rest.strip() and "\0" not in rest:
        return replace(base, kind=ProbeKind.COMMAND, command=rest)
    if kind in {"tcp", "none"} and not colon:
        return replace(base, kind=ProbeKind(kind))
    raise UsageError(
        f"cannot probe by {text!r}",
        "that is no way to do so",
        "write http:/PATH, tcp, command:COMMAND or none",
    )


def check_probe(probe: Probe) -> Probe:
    """Return a probe if it can be done. Raises UsageError otherwise."""
    what = "cannot probe like this"
    if not 0 <= probe.port <= 65535:
        raise UsageError(what, f"there is no port {probe.port}", "give 1 to 65535")
    if not 100 <= probe.status <= 599:
        raise UsageError(what, f"HTTP has no status {probe.status}", "give 100 to 599")
    if probe.attempts < 1:
        raise UsageError(what, f"{probe.attempts} attempts", "allow one or more")
    for name, seconds, least in (
        ("an interval", probe.interval, 0),
        ("a timeout", probe.timeout, 1e-3),
    ):
        if not (math.isfinite(seconds) and least <= seconds <= 3600):
            raise UsageError(what, f"{name} of {seconds:g} s", f"give {least:g} to 3600 s")
    return probe


def check_drain(seconds: float) -> float:
    """Return for how long connections are waited for. Raises UsageError."""
    if not (math.isfinite(seconds) and 0 <= seconds <= DRAIN_MAX):
        raise UsageError(
            f"cannot drain for {seconds:g} s",
            "that is out of range",
            f"give 0 to {DRAIN_MAX:g} seconds",
        )
    return seconds


def parse_targets(texts: Sequence[str]) -> dict[str, str]:
    """Read NAME=TARGET of each. Raises UsageError."""
    targets: dict[str, str] = {}
    for text in texts:
        name, equals, target = text.partition("=")
        if not equals or not target:
            raise UsageError(f"cannot switch {text!r}", "it has no target", "write NAME=TARGET")
        if check_name(name) in targets:
            raise UsageError(f"cannot switch {name}", "it is named twice", "name it once")
        targets[name] = target
    if not targets:
        raise UsageError("cannot switch nothing", "no service is named", "write NAME=TARGET")
    return targets


def _port(text: str) -> ServicePort:
    found = re.fullmatch(r"(\d{1,5}):(\d{1,5})(?:/(tcp|udp))?", text, re.ASCII)
    if not found or not all(1 <= int(found[side]) <= 65535 for side in (1, 2)):
        raise UsageError(
            f"cannot publish {text!r}",
            "that names no ports",
            "write HOST:GUEST or HOST:GUEST/udp, as in 8080:80",
        )
    return ServicePort(int(found[1]), int(found[2]), Transport(found[3] or "tcp"))


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError as error:
        raise UsageError(
            f"cannot publish at {text!r}", "that is no address", "give one of this host's"
        ) from error


def _is_path(text: str) -> bool:
    """Whether it can stand in a request's first line."""
    return text.startswith("/") and all("!" <= character <= "~" for character in text)


def _key(port: ServicePort) -> tuple[int, Transport, str]:
    return port.port, port.transport, port.address
