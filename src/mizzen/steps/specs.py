"""What machines of a name are to be; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec

from mizzen.control.services import NAME_MAX
from mizzen.engine.step import failed
from mizzen.engine.terms import Input, Term, constant, gather
from mizzen.machines.checks import UNIKERNEL_MEMORY_MIN, check_bounds
from mizzen.model.deployment import VERSION_DIGITS, Address, Deployment
from mizzen.model.errors import Failure
from mizzen.model.image import Image, ProcessConfig
from mizzen.model.machine import NAME, Accel, Port

from .arguments import mebibytes, published, told

Text: TypeAlias = Input[str] | Input[Address]
"""Text, or an address, which is told as text."""

Argument: TypeAlias = Text | Callable[[str], str]
"""One argument: text, or what makes text of the machine's address."""

Arguments: TypeAlias = Sequence[Argument] | Callable[[str], Sequence[str]]
"""All arguments: one by one, or what makes them of the machine's address."""

Known: TypeAlias = tuple[str | Callable[[str], str], ...] | Callable[[str], Sequence[str]]
"""Arguments without terms."""

SPEC = "machines spec"
"""What such terms' labels begin with; the name follows."""

EXAMPLE = "192.0.2.1"
"""An address that no machine has (RFC 5737): versions do not depend on addresses."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What machines of a name are to be.

    version: of this content, in hex; names the machine. Other fields are those of ``Deployment``
    where they share a name.
    """

    name: str
    image: Image
    memory: int
    vcpus: int
    label: str
    args: Known
    environment: tuple[str, ...]
    outward: bool | None
    ports: tuple[Port, ...]
    accel: Accel | None
    version: str = ""

    @property
    def machine(self) -> str:
        """Return the name of the machine."""
        return f"{self.name}-{self.version}"

    def deployment(self, address: str) -> Deployment:
        """Return the machine that has an address. Raises what the user's functions raise."""
        return Deployment(
            service=self.name,
            version=self.version,
            image=self.image,
            memory=self.memory,
            vcpus=self.vcpus,
            accel=self.accel,
            label=self.label,
            arguments=_made(self.args, address),
            environment=self.environment,
            outward=self.outward,
            ports=self.ports,
        )

    def named(self) -> Spec:
        """Return it with its version. Raises what the user's functions raise."""
        content = (
            self.image.digest,
            self.memory,
            self.vcpus,
            self.label,
            _made(self.args, EXAMPLE),
            self.environment,
            self.outward,
            self.ports,
        )
        digest = hashlib.sha256(msgspec.json.encode(content)).hexdigest()
        return replace(self, version=digest[:VERSION_DIGITS])


def spec(
    name: str,
    image: Input[Image],
    *,
    memory: str | int = "256M",
    vcpus: int = 1,
    network: str | None = None,
    args: Arguments = (),
    env: Mapping[str, Text] | None = None,
    outward: bool | None = None,
    ports: Sequence[int | str] | None = None,
    accel: str | None = None,
) -> Term[Spec]:
    """Return what the machines of a name are to be. Nothing is started yet.

    Each content is a machine of its own, called NAME-VERSION, so that an old and a new one run
    side by side while one takes the other's place.

    image: what it boots. memory: "256M", "1G", or MiB. vcpus: virtual CPUs.
    network: the label that ``network.allow`` knows it by; machines may share one. None is the
        name.
    args: follow the image's own command, and are all that a unikernel gets. A function gets the
        machine's address, as text: the first one where it has several. Instead of all of them,
        each can be a function, a term, or another machine's address.
    env: variables, over the image's own; texts, or other machines' addresses.
    outward: whether it may begin conversations; None is yes where it has an address of its own,
        no with QEMU's user networking, where that lets it reach whatever you can.
    ports: of the guest, such as 80 or "53/udp". Only QEMU's user networking needs them, since it
        has to know them beforehand; None takes those that the image exposes.
    accel: "kvm" or "tcg"; None takes what works here.

        spec = machines.spec("entry", image, env={"NEXT": signer_ip},
                             args=lambda ip: [f"--listen={ip}:25"])
    """
    label = f"{SPEC} {name}"
    variables = dict(env or {})
    listed = () if callable(args) else tuple(args)
    try:
        _check(name, mebibytes(memory), vcpus, network)
        kind = Accel(accel) if accel else None
        guests = None if ports is None else tuple(map(published, ports))
    except (Failure, ValueError, TypeError) as error:
        return failed(label, told(label, error))

    def make(values: tuple[object, ...]) -> Spec:
        booted, *rest = (str(one) if isinstance(one, Address) else one for one in values)
        process = _process(label, booted, mebibytes(memory), vcpus)
        assert isinstance(booted, Image)
        texts, arguments = rest[: len(variables)], tuple(rest[len(variables) :])
        if process is None and variables:
            why = "a unikernel has no environment"
            raise Failure(f"cannot do {label}", why, "give it arguments instead")
        exposed = process.ports if process is not None else ()
        return Spec(
            name=name,
            image=booted,
            memory=mebibytes(memory),
            vcpus=vcpus,
            label=network or name,
            args=args if callable(args) else _arguments(label, arguments),
            environment=_environment(label, dict(zip(variables, texts, strict=True))),
            outward=outward,
            ports=tuple(map(published, exposed)) if guests is None else guests,
            accel=kind,
        ).named()

    inputs = (image, *variables.values(), *listed)
    return gather(one if isinstance(one, Term) else constant(one) for one in inputs).map(
        make, label
    )


def name_of(spec: Term[Spec]) -> str:
    """Return the name in a term that ``spec`` has made, to call steps after."""
    return spec.label.removeprefix(SPEC).strip()


def _check(name: str, memory: int, vcpus: int, network: str | None) -> None:
    """Raise Failure or TypeError for arguments that make no machine."""
    for one in (name, name if network is None else network):
        if not NAME.fullmatch(one) or len(one) > NAME_MAX:
            raise Failure(
                f"{one!r} cannot name a machine",
                f"a name has 1 to {NAME_MAX} of a-z, 0-9 and -, and does not begin or end with -",
                "choose another",
            )
    check_bounds(f"cannot start machines of {name}", memory, vcpus, UNIKERNEL_MEMORY_MIN)


def _process(label: str, image: object, memory: int, vcpus: int) -> ProcessConfig | None:
    """Return how an image's process starts, None of a unikernel. Raises Failure."""
    if not isinstance(image, Image):
        why = f"its image is of type {type(image).__name__}"
        raise Failure(f"cannot do {label}", why, "give what docker.build returns")
    if image.process is not None:
        check_bounds(f"cannot do {label}", memory, vcpus)
    return image.process


def _arguments(label: str, values: tuple[object, ...]) -> Known:
    for one in values:
        if not isinstance(one, str) and not callable(one):
            fix = "give texts, or functions that make one of an address"
            raise Failure(f"cannot do {label}", f"{one!r} is no argument", fix)
    return values  # type: ignore[return-value]


def _environment(label: str, values: Mapping[str, object]) -> tuple[str, ...]:
    for name, value in values.items():
        if not isinstance(value, str) or not name or "=" in name:
            why = f"{name!r} cannot be {value!r}"
            raise Failure(f"cannot do {label}", why, "give variables names and texts")
    return tuple(f"{name}={value}" for name, value in values.items())


def _made(args: Known, address: str) -> tuple[str, ...]:
    if callable(args):
        found = tuple(args(address))
    else:
        found = tuple(one(address) if callable(one) else one for one in args)
    for text in found:
        if not isinstance(text, str):
            why = f"their function returned {text!r}"
            raise Failure("cannot make a machine's arguments", why, "return texts")
    return found
