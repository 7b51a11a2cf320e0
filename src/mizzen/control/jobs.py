"""Jobs as a user asks for them: of ``mizzen up`` while it runs, else of the database."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlencode

import msgspec

from mizzen.host.paths import Folders
from mizzen.model.errors import Failure
from mizzen.model.job import UNFINISHED, JobFilter, JobLine, JobRecord, JobState
from mizzen.store import jobs
from mizzen.store.database import connect_to_read

from .job_query import LINES, JobPage, LogPage, Page, Rebuilt, to_query
from .unix_http import Absent, ask, follow


def every(folders: Folders, wanted: JobFilter, limit: int | None = None) -> Iterator[JobRecord]:
    """Yield jobs, the newest first; as many as there are, or a limit. Raises Failure."""
    return itertools.islice(_every(folders, wanted), limit)


def find(folders: Folders, job: int) -> JobRecord:
    """Return a job. Raises Failure."""
    try:
        return ask(folders.control, f"cannot show job {job}", f"/jobs/{job}", JobRecord)
    except Absent:
        return _stored(folders, job)


def log(folders: Folders, job: int) -> Iterator[JobLine]:
    """Yield the lines of a job's log that there are. Raises Failure."""
    what, after = f"cannot read the log of job {job}", -1
    while True:
        try:
            page = ask(folders.control, what, f"/jobs/{job}/log?after={after}", LogPage)
        except Absent:
            page = _stored_lines(folders, job, after)
        yield from page.lines
        if page.after is None:
            return
        after = page.after


def follow_log(folders: Folders, job: int) -> Iterator[JobLine | JobRecord]:
    """Yield a job's lines as they are written, and the job once it has ended. Raises Failure."""
    what = f"cannot follow job {job}"
    try:
        for name, data in follow(folders.control, what, f"/jobs/{job}/log"):
            if name == "end":
                yield msgspec.json.decode(data, type=JobRecord)
                return
            yield msgspec.json.decode(data, type=JobLine)
    except Absent:
        yield from log(folders, job)
        yield _stored(folders, job)
    else:
        raise Failure(what, "mizzen up has ended", "start it again, it goes on")


def start(folders: Folders, job: int) -> JobRecord:
    """Release a job that waits to be confirmed. Raises Failure."""
    return _tell(folders, job, "start")


def cancel(folders: Folders, job: int) -> JobRecord:
    """End a job. Raises Failure."""
    return _tell(folders, job, "cancel")


def rebuild(folders: Folders, job: int) -> JobRecord:
    """Do again what a job did. Raises Failure."""
    return _tell(folders, job, "rebuild")


def rebuild_failed(folders: Folders, wanted: JobFilter) -> Rebuilt:
    """Do again what steps have failed at. wanted: its pipeline and operation. Raises Failure."""
    what = "cannot rebuild what failed"
    query = urlencode(to_query(wanted, Page()))
    try:
        return ask(folders.control, what, f"/jobs/rebuild?{query}", Rebuilt, method="POST")
    except Absent as error:
        raise _idle(what) from error


def _tell(folders: Folders, job: int, verb: str) -> JobRecord:
    what = f"cannot {verb} job {job}"
    try:
        return ask(folders.control, what, f"/jobs/{job}/{verb}", JobRecord, method="POST")
    except Absent as error:
        raise _idle(what) from error


def _idle(what: str) -> Failure:
    return Failure(what, "no mizzen up runs here", "start it: mizzen up PIPELINE.py")


def _every(folders: Folders, wanted: JobFilter) -> Iterator[JobRecord]:
    page = Page()
    while True:
        query = urlencode(to_query(wanted, page))
        try:
            found = ask(folders.control, "cannot list jobs", f"/jobs?{query}", JobPage)
        except Absent:
            found = _stored_page(folders, wanted, page)
        yield from found.jobs
        if found.before is None:
            return
        page = replace(page, before=found.before)


def _stored_page(folders: Folders, wanted: JobFilter, page: Page) -> JobPage:
    """Return jobs of the database, where no job runs: what had not ended was interrupted."""
    states = set(wanted.states)
    if states:
        states -= set(UNFINISHED)
        states |= set(UNFINISHED) if JobState.INTERRUPTED in states else set()
        if not states:
            return JobPage([], None)
    asked = replace(wanted, states=tuple(states))
    with closing(connect_to_read(folders.database)) as connection:
        found = jobs.page(connection, asked, before=page.before, limit=page.limit)
    more = len(found) == page.limit
    return JobPage([_ended(job) for job in found], found[-1].id if more else None)


def _stored(folders: Folders, job: int) -> JobRecord:
    with closing(connect_to_read(folders.database)) as connection:
        found = jobs.find(connection, job) if job < 1 << 63 else None
    if found is None:
        why = "there is none of that number, or it is forgotten"
        raise Failure(f"cannot find job {job}", why, "see: mizzen jobs list")
    return _ended(found)


def _stored_lines(folders: Folders, job: int, after: int) -> LogPage:
    _stored(folders, job)
    with closing(connect_to_read(folders.database)) as connection:
        lines = jobs.lines(connection, job, after=after, limit=LINES)
    return LogPage(lines, lines[-1].number if len(lines) == LINES else None)


def _ended(job: JobRecord) -> JobRecord:
    return replace(job, state=JobState.INTERRUPTED) if job.state in UNFINISHED else job
