"""``mizzen jobs``: what pipelines have done, and what of it to do, end or do again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from cyclopts import App, Parameter
from rich.text import Text

from mizzen.control import jobs as control
from mizzen.host.paths import Folders, folders
from mizzen.model.duration import seconds
from mizzen.model.errors import UsageError
from mizzen.model.job import UNFINISHED, JobFilter, JobLine, JobRecord, JobState

from . import output

app = App(
    name="jobs",
    help="Show what pipelines have done, and start, cancel and repeat it. Jobs and their logs are"
    " shown whether mizzen up runs or not.",
)

STYLES = {
    JobState.WAITING: "magenta",
    JobState.QUEUED: "yellow",
    JobState.RUNNING: "yellow",
    JobState.OK: "green",
    JobState.FAILED: "bold red",
    JobState.CANCELLED: "dim",
    JobState.INTERRUPTED: "dim",
}

LEVELS = ("harmless", "low", "medium", "high", "dangerous")

Json = Annotated[bool, Parameter(name="--json", negative="")]
Numbers = Annotated[int, Parameter(name="ID")]


@app.command(name="list")
def list_(
    *,
    pipeline: str = "",
    operation: str = "",
    state: Annotated[tuple[JobState, ...], Parameter(negative=())] = (),
    since: str = "",
    until: str = "",
    text: str = "",
    limit: int | None = None,
    json: Json = False,
) -> None:
    """List jobs, the newest first; all that there are unless told otherwise.

    Parameters
    ----------
    pipeline
        Only those of this pipeline.
    operation
        Only those whose step begins with these words, such as "docker build".
    state
        Only those in this state; may be given several times.
    since
        Only those that are younger than this, such as 90s, 30m, 2h, 7d; or a time such as
        2026-11-22T08:00.
    until
        Only those that are older than this.
    text
        Only those with this in a line of their log.
    limit
        At most so many.
    json
        Print JSON instead of a table.
    """
    wanted = JobFilter(
        pipeline=pipeline,
        operation=operation,
        states=state,
        since=_time("--since", since),
        until=_time("--until", until),
        text=text,
    )
    if limit is not None and limit < 0:
        raise UsageError("cannot list jobs", "--limit is less than 0", "give a number of jobs")
    found = list(control.every(folders(), wanted, limit))
    if json:
        output.as_json(found)
        return
    output.table(
        ("ID", "STATE", "PIPELINE", "STEP", "AGE", "TOOK", "WHY"),
        [
            (
                Text(str(job.id), "bold"),
                Text(job.state, STYLES[job.state]),
                Text(job.pipeline, "cyan"),
                job.label,
                Text(output.age(job.created), "dim"),
                _took(job),
                job.error,
            )
            for job in found
        ],
        "There are no such jobs." if wanted != JobFilter() else "There are no jobs yet.",
    )


@app.command
def show(number: Numbers, /, *, json: Json = False) -> None:
    """Show all that is known of a job.

    Parameters
    ----------
    number
        The job's number, as mizzen jobs list shows it.
    json
        Print JSON.
    """
    job = control.find(folders(), number)
    if json:
        output.as_json(job)
        return
    output.console.print(Text(job.label, "bold"), soft_wrap=True)
    facts = (
        ("state", job.state.value),
        ("why", job.error),
        ("pipeline", job.pipeline),
        ("operation", job.operation),
        ("key", job.key),
        ("inputs", job.digest),
        ("level", LEVELS[job.level] + (", released" if job.confirmed else "")),
        ("created", output.clock(job.created)),
        ("started", output.clock(job.started) if job.started else ""),
        ("ended", output.clock(job.ended) if job.ended else ""),
        ("took", _took(job)),
        ("attempts", str(job.attempts) if job.attempts else ""),
    )
    for name, value in facts:
        if value:
            line = Text(f"  {name:<10}", "dim").append(value, "not dim")
            output.console.print(line, soft_wrap=True)
    hint = "start" if job.state is JobState.WAITING else "logs"
    output.console.print(Text(f"  mizzen jobs {hint} {job.id}", "dim"))


@app.command
def logs(
    number: Numbers,
    /,
    *,
    follow: Annotated[bool, Parameter(alias="-f", negative=())] = False,
    json: Json = False,
) -> None:
    """Print what a job has written.

    Parameters
    ----------
    number
        The job's number.
    follow
        Go on until the job has ended, and say then how.
    json
        Print each line as a line of JSON.
    """
    found = control.follow_log(folders(), number) if follow else control.log(folders(), number)
    for one in found:
        if isinstance(one, JobLine):
            _print(one, json=json)
        elif not json:
            output.note(f"job {one.id} is {one.state}" + (f": {one.error}" if one.error else ""))


@app.command
def start(first: Numbers, /, *more: Numbers, json: Json = False) -> None:
    """Release jobs that wait to be confirmed.

    Parameters
    ----------
    first
        The job's number.
    more
        Others.
    json
        Print the jobs as JSON.
    """
    _tell(control.start, (first, *more), "is released", json=json)


@app.command
def cancel(first: Numbers, /, *more: Numbers, json: Json = False) -> None:
    """End jobs and the processes that they have started.

    Parameters
    ----------
    first
        The job's number.
    more
        Others.
    json
        Print the jobs as JSON.
    """
    _tell(control.cancel, (first, *more), "is being ended", json=json)


@app.command
def rebuild(
    *numbers: Numbers,
    failed: Annotated[bool, Parameter(negative=())] = False,
    pipeline: str = "",
    operation: str = "",
    json: Json = False,
) -> None:
    """Do again what jobs did, as new jobs.

    Parameters
    ----------
    numbers
        The jobs' numbers.
    failed
        Do again all that steps have failed at, and are at now.
    pipeline
        With --failed: only in this pipeline.
    operation
        With --failed: only steps that begin with these words, such as "docker build".
    json
        Print what is done again as JSON.
    """
    if failed == bool(numbers) or (numbers and (pipeline or operation)):
        why = "jobs' numbers or --failed are needed, and not both"
        raise UsageError("cannot rebuild", why, "run: mizzen jobs rebuild --failed")
    if not failed:
        _tell(control.rebuild, numbers, "is done again", json=json)
        return
    done = control.rebuild_failed(folders(), JobFilter(pipeline=pipeline, operation=operation))
    if json:
        output.as_json(done)
        return
    for number in done.rebuilt:
        output.console.print(f"what job {number} did is done again")
    for line in done.refused:
        output.fail(line)
    if not done.rebuilt and not done.refused:
        output.console.print("No step has failed.")


def _tell(
    act: Callable[[Folders, int], JobRecord], numbers: tuple[int, ...], done: str, *, json: bool
) -> None:
    jobs = []
    for number in numbers:
        job = act(folders(), number)
        jobs.append(job)
        if not json:
            line = Text(job.label, "bold").append(f", job {job.id}, {done}", "not bold")
            output.console.print(line, soft_wrap=True)
    if json:
        output.as_json(jobs)


def _print(line: JobLine, *, json: bool) -> None:
    if json:
        output.as_json_line(line)
        return
    shown = Text(output.clock(line.at), "dim").append(f"  {line.text}", "not dim")
    output.console.print(shown, soft_wrap=True)


def _took(job: JobRecord) -> str:
    if job.started is None:
        return ""
    ended = job.ended
    if ended is None:
        return f"{time.time() - job.started:.0f} s" if job.state in UNFINISHED else ""
    taken = ended - job.started
    return f"{taken:.1f} s" if taken < 100 else f"{taken / 60:.0f} min"


def _time(option: str, text: str) -> float | None:
    """Return a time of long ago, given by its age or as such. Raises UsageError."""
    if not text:
        return None
    with contextlib.suppress(ValueError):
        return time.time() - seconds(text)
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            "cannot list jobs",
            f"{option} {text} is neither an age nor a time",
            "write 30m, 2h, 7d or 2026-11-22T08:00",
        ) from error
