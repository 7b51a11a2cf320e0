"""Ports of this host that lead to machines, and the end of machines that none leads to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mizzen.control import dispose
from mizzen.control import stage as staging
from mizzen.control.publish import setting
from mizzen.control.services import check_drain, check_name, check_once, parse_ports
from mizzen.control.stage import Candidate
from mizzen.engine.graph import Graph, current
from mizzen.engine.job import Job
from mizzen.engine.operation import Publication
from mizzen.engine.policy import Level, Policy
from mizzen.engine.step import Step, failed, step, wrong
from mizzen.engine.terms import Term, gather
from mizzen.model.deployment import Live, Vm
from mizzen.model.duration import seconds
from mizzen.model.errors import Failure
from mizzen.model.service import Service, ServicePort
from mizzen.publish import probe as probing

from . import ready as readiness
from .arguments import guest_port, several, told, unfit
from .machines import PATIENT, Deploy
from .ready import Ready

__all__ = ["collect", "port", "service", "stage"]

DRAIN = "30s"

HOUR = 3600.0


class GoLive(Publication[Live], frozen=True, kw_only=True):
    """Services' ports lead to machines."""

    id: ClassVar[str] = staging.PUBLISHED
    noun: ClassVar[str] = "port"
    policy: ClassVar[Policy] = Policy(level=Level.HIGH, retry=PATIENT)
    name: str
    candidates: tuple[Candidate, ...]

    @property
    def key(self) -> str:
        """Return the name of what goes live as one."""
        return self.name

    async def run(self, job: Job) -> Live:
        """Roll out what is not live."""
        staging.check_unique(self.name, self.candidates, self._others(job))
        async with setting(job.folders, job.report) as at:
            return await staging.go_live(at, self.name, self.candidates)

    async def holds(self, value: Live, job: Job) -> bool:  # noqa: ARG002 - the inputs say all
        """Whether the ports lead there."""
        async with setting(job.folders, job.report) as at:
            return await staging.is_live(at, self.candidates)

    def _others(self, job: Job) -> list[Live]:
        wanted = job.world.wanted(self.id) - {self.key}
        known = job.world.published(self.id)
        return staging.remembered(one for one in known if one.key in wanted)


class Collect(Publication[tuple[str, ...]], frozen=True, kw_only=True):
    """Nothing is there that a pipeline made and needs no more.

    live: what is live; a part that is not is None. steps: services that are deployed.
    """

    id: ClassVar[str] = "publish collect"
    policy: ClassVar[Policy] = Policy(level=Level.MEDIUM, retry=PATIENT, valid_for=HOUR)
    pipeline: str
    live: tuple[Live | None, ...]
    steps: tuple[str, ...]

    @property
    def key(self) -> str:
        """Return the pipeline's name."""
        return self.pipeline

    async def run(self, job: Job) -> tuple[str, ...]:
        """Free what is needed no more; return the machines."""
        standing = dispose.Standing(frozenset(self.steps), complete=None not in self.live)
        async with setting(job.folders, job.report) as at:
            return await dispose.dispose(at, job.world, standing, job.log)

    async def holds(self, value: tuple[str, ...], job: Job) -> bool:  # noqa: ARG002 - see below
        """Return False: it looks again whenever Mizzen starts."""
        return False


def port(
    name: str,
    vm: Term[Vm],
    ports: Mapping[int | str, int | str],
    *,
    ready: Ready | None = None,
    drain: str | float = DRAIN,
    addresses: Sequence[str] = (),
) -> Term[Live]:
    """Lead ports of this host to a machine, once it is ready; those before lead on until then.

    name: of the service, as ``mizzen publish list`` shows it. ports: of the host, each with the
    machine's own: 80, "53/udp", or of one of the host's addresses only, as "127.0.0.1:2525".
    ready: when the machine is: ``http("/healthz")``, ``tcp()``, ``command("...")`` or
    ``running()``; None is ``tcp()``. drain: how long connections to the version before may go on.
    addresses: of the host, for ports that name none; without any, all it has.

        live = publish.port("website", vm, {8080: 80}, ready=http("/healthz"))

    The switch is one transaction: open connections stay where they are. Fails if the machine does
    not get ready, with an incident that holds its console's last lines, or if a port is taken; what
    was live stays so, and the machine too, to be looked at.
    """
    label = f"{GoLive.id} {name}"
    if (bad := unfit(label, vm=vm)) is not None:
        return bad
    try:
        made = _service(name, ports, ready, drain, addresses)
    except (Failure, ValueError, TypeError, AttributeError) as error:
        return failed(label, told(label, error))
    return step(GoLive, name, name=name, candidates=[vm.map(lambda one: Candidate(made, one))])


def service(
    name: str,
    vm: Term[Vm],
    ports: Mapping[int | str, int | str],
    *,
    ready: Ready | None = None,
    drain: str | float = DRAIN,
    addresses: Sequence[str] = (),
) -> Term[Candidate]:
    """Return a part of a ``publish.stage``; arguments as of ``publish.port``."""
    label = f"publish service {name}"
    if (bad := unfit(label, vm=vm)) is not None:
        return bad
    try:
        made = _service(name, ports, ready, drain, addresses)
    except (Failure, ValueError, TypeError, AttributeError) as error:
        return failed(label, told(label, error))
    return vm.map(lambda one: Candidate(made, one))


def stage(name: str, services: Sequence[Term[Candidate]]) -> Term[Live]:
    """Let services go live as one: all of them at one instant, or none.

    name: of all together. services: from ``publish.service``; those that have not changed stay.

        live = publish.stage("mail", [
            publish.service("entry", entry, {25: 25}),
            publish.service("signer", signer, {2525: 25}),
        ])

    Meanwhile the new machines are *current* in ``mizzen publish list``, and *live* after. Fails as
    ``publish.port`` does, if any of them does not get ready.
    """
    label = f"{GoLive.id} {name}"
    if not _are_terms(services):
        error = TypeError("a list of what publish.service returns is wanted")
        return failed(label, wrong(label, "services", error))
    return step(GoLive, name, name=name, candidates=list(services))


def collect(live: Sequence[Term[Live]]) -> Term[tuple[str, ...]]:
    """Stop and remove this pipeline's machines that nobody needs, by itself; return their names.

    live: what has to be known before it looks; it looks again when any of it changes, and each
    hour. A machine stays while it is wanted, while a port leads to it, while it drains or is being
    rolled out, while what replaces it does not run, and for a day if it is its service's last that
    failed. With it go its logs, its link and its addresses, and edges whose step is gone. What was
    made by hand is not looked at.

        publish.collect([live])
    """
    if not _are_terms(live):
        error = TypeError("a list of what publish.port and publish.stage return is wanted")
        return failed(Collect.id, wrong(Collect.id, "live", error))
    graph = current()
    known = gather([one.catch().map(_or_none) for one in live])
    steps = known.map(lambda _: _deployed(graph))
    return step(Collect, pipeline=graph.name, live=known, steps=steps)


def _are_terms(values: object) -> bool:
    if not isinstance(values, list | tuple):
        return False
    return all(isinstance(one, Term) for one in values)


def _service(
    name: str,
    ports: Mapping[int | str, int | str],
    ready: Ready | None,
    drain: str | float,
    addresses: Sequence[str],
) -> Service:
    """Return what arguments say. Raises Failure, or what wrong types raise."""
    service = Service(
        check_name(name),
        _ports(ports, addresses),
        (readiness.tcp() if ready is None else ready).probe(),
        check_drain(seconds(drain) if drain else 0.0),
    )
    probing.check(service)
    return service


def _ports(
    ports: Mapping[int | str, int | str], addresses: Sequence[str]
) -> tuple[ServicePort, ...]:
    """Read ports of the host, each with the machine's. Raises Failure or ValueError."""
    if not ports:
        raise ValueError("no port is named: write {8080: 80}")
    found: tuple[ServicePort, ...] = ()
    for host, guest in ports.items():
        address, colon, port = str(host).rpartition(":")
        own = [address.removeprefix("[").removesuffix("]")] if colon else several(addresses)
        found += parse_ports([_written(port, guest)], own)
    check_once(found)
    return found


def _written(host: str, guest: int | str) -> str:
    """Return a pair of ports as it is on a command line. Raises ValueError."""
    number, transport = guest_port(host)
    inner, kind = guest_port(guest)
    if isinstance(guest, int):
        kind = transport
    if transport is not kind:
        raise ValueError(f"port {host} cannot lead to {guest}: write /{kind} behind both")
    return f"{number}:{inner}/{kind}"


def _or_none(value: Live | Exception) -> Live | None:
    return None if isinstance(value, Exception) else value


def _deployed(graph: Graph) -> tuple[str, ...]:
    """Return the names of which a graph has steps that deploy machines."""
    found = {_deployed_by(term) for term in graph.terms.values()}
    return tuple(sorted(found - {""}))


def _deployed_by(term: Term[Any]) -> str:
    if isinstance(term, Step) and issubclass(term.operation, Deploy):
        return term.label.removeprefix(Deploy.id).strip()
    return ""
