from __future__ import annotations

import os
from dataclasses import replace

from mizzen.benches.remains import Continuity, Messages, messages, repeated
from mizzen.host.process import start_time
from mizzen.model.job import JobRecord, JobState
from mizzen.model.machine import Machine, MachineSpec, MachineState

JOB = JobRecord(
    id=1, pipeline="website", operation="docker build", key="a", digest="a", label="build",
    level=1, state=JobState.OK, confirmed=False, created=1.0, started=1.0, ended=2.0, attempts=1,
    error="",
)  # fmt: skip


def test_job_is_repeated_if_one_of_the_same_inputs_had_succeeded():
    again = replace(JOB, id=2, state=JobState.INTERRUPTED)
    assert repeated([again, JOB]) == [again]


def test_job_is_not_repeated_that_goes_on_or_is_of_other_inputs_or_never_began():
    killed = replace(JOB, state=JobState.INTERRUPTED)
    assert not repeated([killed, replace(JOB, id=2)])
    assert not repeated([JOB, replace(JOB, id=2, digest="b")])
    assert not repeated([JOB, replace(JOB, id=2, operation="docker file")])
    assert not repeated([JOB, replace(JOB, id=2, started=None, state=JobState.INTERRUPTED)])


def test_looking_at_the_world_again_repeats_nothing():
    looked = replace(JOB, operation="publish collect")
    assert not repeated([looked, replace(looked, id=2)])


def test_messages_are_judged_by_the_jobs_that_sent_them():
    cut = replace(JOB, digest="cut", state=JobState.INTERRUPTED)
    known = [replace(JOB, digest=name) for name in ("once", "twice", "lost")]
    came = {"once": 1, "twice": 2, "lost": 0, "cut": 0, "passed": 0}
    assert messages([cut, *known], came) == Messages(twice=1, cut=1, passed=1, lost=1)


def test_machine_goes_on_while_it_is_the_same_process(tmp_path):
    spec = MachineSpec("site-1", "hello", tmp_path, None, None, None)
    me = os.getpid()
    machine = Machine(spec, MachineState.RUNNING, me, start_time(me), created=1.0)
    seen = Continuity()
    for live in (None, machine, machine):
        seen.look(live)
    assert seen.broken == 0
    seen.look(replace(machine, pid_start=machine.pid_start - 1))
    assert seen.broken == 1
    gone = replace(machine, spec=replace(spec, name="site-2"), pid_start=1)
    seen.look(gone)
    assert seen.broken == 2
