"""Where a release answers, and what leads there: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from mizzen.model.errors import Failure
from mizzen.model.network import Forward, Publication, endpoint
from mizzen.model.service import Release, Service, ServicePort


def publication(service: Service, release: Release) -> Publication:
    """Return what makes a release live.

    Raises Failure if a port's address has a family that the release does not answer in.
    """
    forwards = []
    for port in service.ports:
        targets = [
            address
            for address in release.addresses
            if not port.address or _version(port.address) == _version(address)
        ]
        if not targets:
            family = f"IPv{_version(port.address)}" if port.address else "any"
            raise Failure(
                f"cannot publish {release}",
                f"it has no {family} address" + (f" for {port.address}" if port.address else ""),
                f"see: mizzen publish show {service.name}",
            )
        forwards += [
            Forward(
                port.address,
                port.port,
                port.transport,
                target,
                release.port(port.target_port, port.transport),
            )
            for target in targets
        ]
    return Publication(service.name, tuple(forwards))


def leads_to(published: Publication | None, service: Service, release: Release) -> bool:
    """Whether a publication makes that release live."""
    if published is None or not release.addresses:
        return False
    return set(published.forwards) == set(publication(service, release).forwards)


def live(
    service: Service, releases: Sequence[Release], published: Publication | None
) -> Release | None:
    """Return the newest of these releases that a publication leads to, None if it is none."""
    found = [one for one in releases if leads_to(published, service, one)]
    return max(found, key=lambda one: one.number, default=None)


def uses(published: Publication, release: Release) -> bool:
    """Whether any port of a publication leads to that release's machine."""
    ports = {at for _, at, _ in release.ports}
    return any(
        forward.target in release.addresses and (not ports or forward.target_port in ports)
        for forward in published.forwards
    )


def endpoints(service: Service, release: Release) -> tuple[str, ...]:
    """Return ADDRESS:PORT of all that a release answers at, as the network's drain takes them."""
    found = {
        endpoint(address, at)
        for address in release.addresses
        for at in (release.port(port.target_port, port.transport) for port in service.ports)
    }
    return tuple(sorted(found))


def check_free(service: Service, published: Mapping[str, Publication]) -> None:
    """Raise Failure if another publication has a port of the service."""
    for other in published.values():
        if other.name == service.name:
            continue
        for forward in other.forwards:
            for port in service.ports:
                if _conflict(port, forward):
                    raise Failure(
                        f"cannot publish {service.name}",
                        f"port {forward} is published by {other.name}",
                        "choose another port, or another address of the host",
                    )


def _conflict(port: ServicePort, forward: Forward) -> bool:
    if (port.port, port.transport) != (forward.port, forward.transport):
        return False
    if not port.address:
        return True
    return forward.address in {"", port.address} and forward.version == _version(port.address)


def _version(address: str) -> int:
    return ip_address(address).version
