"""Attach works on every kernel, machine and guest of the matrix, or names what prevents it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from matrix.cases import PAIRS, Case
from matrix.machines import FAULTS, WARNINGS, Guest, booted, qemu_version
from matrix.states import STATES

from matrix import results
from mizzen import __version__

pytestmark = [pytest.mark.machine, pytest.mark.timeout(600)]  # it may take three boots


@pytest.fixture
def guest(case: Case, files_of):
    with booted(case, files_of(case)) as running:
        yield running


@dataclass
class Outcome:
    """What the test has found so far; it is kept also when the test fails."""

    words: str = "fails: the guest does not boot"
    release: str = ""
    seconds: float | None = None


@pytest.fixture
def outcome(case: Case, store):
    found = Outcome()
    yield found
    row = results.row(
        case,
        outcome=found.words,
        release=found.release,
        seconds=found.seconds,
        pairs=case in PAIRS,
        date=datetime.now(UTC).date().isoformat(),
        mizzen=__version__,
        qemu=qemu_version(),
    )
    store.add(case.name, row)


def test_attach(case: Case, outcome: Outcome, guest: Guest):
    state = STATES[case.state]
    hostname, outcome.release = guest.console.run("uname -n; uname -r").split()
    outcome.words = "fails: the guest is not brought into its state"
    complaints = FAULTS if state.noisy else WARNINGS
    before = guest.bring(state, case.vcpus, complaints)

    inside = guest.console.run(state.inside) if state.inside else ""
    name = "inside" if inside else hostname
    look = "uname -n; uname -r; cat /proc/version >/dev/null; exit 7"
    entered = guest.attach("sh", "-c", look, inside=inside)
    print(entered)  # pytest shows it if the guest is dead, which comes first
    if not state.dead:
        outcome.words = "fails: the guest does not answer afterwards"
        guest.process.send_signal(signal.SIGCONT)
        assert guest.console.run("echo alive") == "alive"
    outcome.words = f"fails: {entered.stderr or entered}"
    if case.refusal:
        assert entered.status == 1, entered
        assert case.refusal in entered.stderr
        assert entered.stderr.count("\n") == 1
    else:
        assert (entered.status, entered.stdout.split()) == (7, [name, outcome.release]), (
            entered.stderr
        )
        again = guest.attach("sh", "-c", "exit 3", inside=inside)
        outcome.words = f"fails the second time: {again.stderr or again}"
        assert again.status == 3, again.stderr
        outcome.seconds = entered.seconds

    if not state.dead:
        outcome.words = "fails: the guest complains"
        assert guest.console.run(complaints) == before
    outcome.words = f"{results.REFUSED}: {case.refusal}" if case.refusal else results.WORKS
