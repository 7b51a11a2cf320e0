"""Jobs over the control socket: listing, reading, following, starting, cancelling, rebuilding."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from mizzen.control.job_query import LINES, JobPage, LogPage, Page, Rebuilt, from_query
from mizzen.engine.drawing import present
from mizzen.engine.engine import Engine
from mizzen.engine.states import Failed
from mizzen.engine.step import Step
from mizzen.model.errors import Failure
from mizzen.model.job import UNFINISHED, JobFilter, JobRecord
from mizzen.store import jobs
from mizzen.store.database import connect_to_read

from .answers import NotFound, answer


class JobApi:
    """Answers about an engine's jobs, and does to them what it is asked to."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> Sequence[Route]:
        """Return what is answered, by path."""
        return (
            Route("/jobs", self._list),
            Route("/jobs/rebuild", self._rebuild_failed, methods=["POST"]),
            Route("/jobs/{job:int}", self._show),
            Route("/jobs/{job:int}/log", self._log),
            Route("/jobs/{job:int}/start", self._start, methods=["POST"]),
            Route("/jobs/{job:int}/cancel", self._cancel, methods=["POST"]),
            Route("/jobs/{job:int}/rebuild", self._rebuild, methods=["POST"]),
        )

    async def _list(self, request: Request) -> Response:
        wanted, page = from_query(request.query_params.multi_items())
        # In a thread: looking for a text in all logs takes long, and the engine goes on meanwhile.
        found = await asyncio.to_thread(self._page, wanted, page)
        more = len(found) == page.limit
        return answer(JobPage(found, found[-1].id if more else None))

    def _page(self, wanted: JobFilter, page: Page) -> list[JobRecord]:
        with contextlib.closing(connect_to_read(self._engine.folders.database)) as connection:
            return jobs.page(connection, wanted, before=page.before, limit=page.limit)

    async def _show(self, request: Request) -> Response:
        return answer(self._find(request))

    async def _log(self, request: Request) -> Response:
        job = self._find(request).id
        after = request.query_params.get("after", request.headers.get("Last-Event-ID", "-1"))
        start = msgspec.convert(after, int, strict=False)
        if "text/event-stream" in request.headers.get("Accept", ""):
            events = self._events(job, start)
            return StreamingResponse(events, media_type="text/event-stream")
        lines = jobs.lines(self._engine.connection, job, after=start, limit=LINES)
        return answer(LogPage(lines, lines[-1].number if len(lines) == LINES else None))

    async def _events(self, job: int, after: int) -> AsyncIterator[bytes]:
        """Yield a job's lines as server-sent events until it has ended, then its record."""
        while True:
            written = self._engine.logs.written
            while lines := jobs.lines(self._engine.connection, job, after=after, limit=LINES):
                for line in lines:
                    yield _event(msgspec.json.encode(line), number=line.number)
                after = lines[-1].number
            record = jobs.find(self._engine.connection, job)
            if record is None or record.state not in UNFINISHED:
                yield _event(msgspec.json.encode(record), name="end")
                return
            await written.wait()

    async def _start(self, request: Request) -> Response:
        job = self._find(request).id
        self._engine.start(job)
        return answer(self._find(request))

    async def _cancel(self, request: Request) -> Response:
        job = self._find(request).id
        self._engine.cancel(job)
        return answer(self._find(request))

    async def _rebuild(self, request: Request) -> Response:
        job = self._find(request)
        self._engine.rebuild(job.id)
        return answer(job)

    async def _rebuild_failed(self, request: Request) -> Response:
        wanted, _ = from_query(request.query_params.multi_items())
        done = Rebuilt([], [])
        for job in self._failed(wanted):
            try:
                self._engine.rebuild(job)
            except Failure as failure:
                done.refused.append(str(failure))
            else:
                done.rebuilt.append(job)
        return answer(done)

    def _failed(self, wanted: JobFilter) -> list[int]:
        """Return the jobs for which steps have failed at present."""
        states = [
            present(term)
            for graph in self._engine.graphs
            if wanted.pipeline in {"", graph.name}
            for term in graph.terms.values()
            if isinstance(term, Step) and term.label.startswith(wanted.operation)
        ]
        return sorted({state.job for state in states if isinstance(state, Failed) and state.job})

    def _find(self, request: Request) -> JobRecord:
        number = int(request.path_params["job"])
        found = jobs.find(self._engine.connection, number) if number < 1 << 63 else None
        if found is None:
            raise NotFound(
                f"cannot find job {number}",
                "there is none of that number, or it is forgotten",
                "see: mizzen jobs list",
            )
        return found


def _event(data: bytes, *, name: str = "", number: int | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    head += f"id: {number}\n" if number is not None else ""
    return head.encode() + b"data: " + data + b"\n\n"
