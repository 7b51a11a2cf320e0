from contextlib import closing
from dataclasses import replace

import pytest
from jobs import RECORD

from mizzen.model.job import JobFilter, JobLine, JobState
from mizzen.store import database, jobs
from mizzen.store.jobs import KEEP, KEEP_LINES


@pytest.fixture
def connection(tmp_path):
    with closing(database.connect(tmp_path / "db")) as made:
        yield made


def begun(connection, number, state=JobState.OK, *, endless=False):
    """Open a job of its own inputs, begin it, and end it unless it is to run on."""
    opened = jobs.open_job(connection, replace(RECORD, digest=str(number)), endless=endless)
    jobs.begin(connection, opened.id, 1.0)
    if state is not JobState.RUNNING:
        jobs.finish(connection, opened.id, state, 2.0)
    return opened.id


def numbers(connection):
    found = jobs.page(connection, JobFilter(), before=None, limit=2 * KEEP)
    return [job.id for job in reversed(found)]


def test_old_jobs_are_forgotten_with_their_logs_while_new_ones_come(connection):
    with database.transaction(connection):
        first = begun(connection, 1)
        jobs.write_lines(connection, [(first, JobLine(0, 0.0, "said"))])
        runs = begun(connection, 2, JobState.RUNNING)
        for number in range(3, KEEP + 101):
            begun(connection, number)
    assert numbers(connection) == [runs, *range(101, KEEP + 101)]
    assert jobs.lines(connection, first) == []


def test_a_log_keeps_its_newest_lines(connection):
    with database.transaction(connection):
        job = begun(connection, 1, JobState.RUNNING)
        for start in (0, KEEP_LINES - 5):
            lines = [(job, JobLine(start + n, 0.0, "x")) for n in range(10)]
            jobs.write_lines(connection, lines)
    kept = [line.number for line in jobs.lines(connection, job)]
    assert kept == [*range(5, 10), *range(KEEP_LINES - 5, KEEP_LINES + 5)]
    assert jobs.count_lines(connection, job) == KEEP_LINES + 5


@pytest.mark.parametrize(("endless", "same"), [(True, True), (False, False)])
def test_what_was_interrupted_goes_on_under_its_number_if_it_is_endless(connection, endless, same):
    first = begun(connection, 1, JobState.INTERRUPTED, endless=endless)
    second = begun(connection, 1, JobState.RUNNING, endless=endless)
    assert (second == first) is same
    record = jobs.find(connection, second)
    assert record.state is JobState.RUNNING
    assert record.ended is None
