"""What init is told about its machine, as a cpio segment that follows the image's initramfs."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from mizzen.host import cpio
from mizzen.model.errors import Failure
from mizzen.model.machine import MachineSpec

ADDRESS = "10.0.2.15"
PREFIX = 24
GATEWAY = "10.0.2.2"
ROOT_DEVICE = "/dev/vda"


def records(spec: MachineSpec, now: float) -> Iterator[tuple[str, str]]:
    """Yield init's configuration as (key, value); guest/init/config.h says what each means."""
    if spec.root is not None:
        yield "root", ROOT_DEVICE
    if spec.process is not None:
        for argument in spec.process.arguments:
            yield "argument", argument
        for variable in spec.process.environment:
            yield "environment", variable
        yield "user", spec.process.user
        yield "directory", spec.process.directory
    yield "hostname", spec.name
    if spec.network is None:
        yield "address", f"{ADDRESS}/{PREFIX}"
        yield "gateway", GATEWAY
    else:
        for address in spec.network.addresses:
            yield "address", f"{address}/{ip_address(address).max_prefixlen}"
        for gateway in spec.network.gateways:
            yield "gateway", gateway
    yield "time", str(int(now))


def segment(spec: MachineSpec, now: float) -> bytes:
    """Return the segment for this machine, started at ``now`` (seconds since the epoch)."""
    lines = [f"{key}={value}" for key, value in records(spec, now)]
    if any("\0" in line for line in lines):
        raise Failure(
            f"cannot start machine {spec.name}",
            "an argument or a variable of its process holds a NUL character",
            "correct the image",
        )
    data = "".join(line + "\0" for line in lines).encode()
    entries = [cpio.directory("mizzen"), cpio.file("mizzen/machine", data, 0o600)]
    return b"".join(cpio.archive(entries))
