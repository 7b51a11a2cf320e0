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
from mizzen.model.image import Image
from mizzen.model.machine import NAME, Accel, Port

from .arguments import mebibytes, published, several, told

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

    def __str__(self) -> str:
        return self.machine

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
    try:
        variables = dict(env or {})
        listed = () if callable(args) else several(args)
        draft = _Draft(
            name=name,
            memory=mebibytes(memory),
            vcpus=vcpus,
            label=name if network is None else network,
            args=args if callable(args) else None,
            variables=tuple(variables),
            outward=outward,
            ports=None if ports is None else tuple(map(published, several(ports))),
            accel=Accel(accel) if accel else None,
        )
        draft.check()
    except (Failure, ValueError, TypeError) as error:
        return failed(label, told(label, error))
    inputs = (image, *variables.values(), *listed)
    terms = (one if isinstance(one, Term) else constant(one) for one in inputs)
    return gather(terms).map(draft.filled, label)


def name_of(spec: Term[Spec]) -> str:
    """Return the name in a term that ``spec`` has made, to call steps after."""
    return spec.label.removeprefix(SPEC).strip()


def check_spec(value: object) -> Spec:
    """Return a value that is a spec. Raises TypeError for others."""
    if not isinstance(value, Spec):
        raise TypeError(f"what machines.spec returns is wanted, not a {type(value).__name__}")
    return value


@dataclass(frozen=True, slots=True)
class _Draft:
    """What of a spec does not follow from terms.

    args: what makes all of the arguments. variables: their names. ports: None are the image's.
    """

    name: str
    memory: int
    vcpus: int
    label: str
    args: Callable[[str], Sequence[str]] | None
    variables: tuple[str, ...]
    outward: bool | None
    ports: tuple[Port, ...] | None
    accel: Accel | None

    @property
    def what(self) -> str:
        return f"cannot do {SPEC} {self.name}"

    def check(self) -> None:
        """Raise Failure or TypeError for what makes no machine."""
        for one in (self.name, self.label):
            if not NAME.fullmatch(one) or len(one) > NAME_MAX:
                raise Failure(
                    f"{one!r} cannot name a machine",
                    f"a name has 1 to {NAME_MAX} of a-z, 0-9 and -, and does not begin or end"
                    " with -",
                    "choose another",
                )
        check_bounds(self.what, self.memory, self.vcpus, UNIKERNEL_MEMORY_MIN)

    def filled(self, values: tuple[object, ...]) -> Spec:
        """Return the spec. values: the image, the variables', the arguments. Raises Failure."""
        image, *rest = (str(one) if isinstance(one, Address) else one for one in values)
        if not isinstance(image, Image):
            why = f"its image is of type {type(image).__name__}"
            raise Failure(self.what, why, "give what docker.build returns")
        count = len(self.variables)
        environment = dict(zip(self.variables, rest[:count], strict=True))
        exposed: tuple[int, ...] = ()
        if image.process is not None:
            check_bounds(self.what, self.memory, self.vcpus)
            exposed = image.process.ports
        elif environment:
            why = "a unikernel has no environment"
            raise Failure(self.what, why, "give it arguments instead")
        return Spec(
            name=self.name,
            image=image,
            memory=self.memory,
            vcpus=self.vcpus,
            label=self.label,
            args=self.args or _arguments(self.what, tuple(rest[count:])),
            environment=_environment(self.what, environment),
            outward=self.outward,
            ports=tuple(map(published, exposed)) if self.ports is None else self.ports,
            accel=self.accel,
        ).named()


def _arguments(what: str, values: tuple[object, ...]) -> Known:
    for one in values:
        if not isinstance(one, str) and not callable(one):
            fix = "give texts, or functions that make one of an address"
            raise Failure(what, f"{one!r} is no argument", fix)
    return values  # type: ignore[return-value]


def _environment(what: str, values: Mapping[str, object]) -> tuple[str, ...]:
    for name, value in values.items():
        if not isinstance(value, str) or not name or "=" in name:
            why = f"{name!r} cannot be {value!r}"
            raise Failure(what, why, "give variables names and texts")
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
