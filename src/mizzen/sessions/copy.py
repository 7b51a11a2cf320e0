"""Copy files out of a guest and into it, by its own paths and without its network."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from dataclasses import dataclass
from pathlib import Path

from mizzen.host.files import explained
from mizzen.model.errors import Failure
from mizzen.model.progress import Progress, Report, silent

from . import requests
from .channel import FrameType, printable
from .files.extract import Extractor
from .files.pack import Packer, size_of
from .link import Link
from .stream import Stream, status_of

TOLD_MAX = 100
"""How many files that were left out are remembered by name."""
SOME_LEFT_OUT = 1
"""The status of stage 2's packer when it sent what it could."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied.

    files: of any kind, folders included. bytes: of content. left_out: what was not, and why: what
    could not be read, devices and the like, and what is mounted further down in the guest.
    """

    files: int
    bytes: int
    left_out: tuple[str, ...]


async def get(link: Link, guest_path: str, place: Path, report: Report = silent) -> Copied:
    """Copy a file or a folder of the guest to a place on the host, or into it if it is a folder.

    Raises Failure; then the files that are there are whole.
    """
    what = f"cannot copy {guest_path} from the guest"
    name = posixpath.basename(guest_path.rstrip("/"))
    task = f"Copying {guest_path} from the guest"
    errors = bytearray()
    with explained(what), Extractor(place, name) as extractor:
        stream = await link.open(FrameType.GET, requests.path(guest_path), what)
        try:
            while (frame := await stream.receive()).kind != FrameType.EXIT:
                if frame.kind == FrameType.OUTPUT:
                    extractor.feed(frame.payload)
                    report(Progress(task, extractor.bytes))
                elif frame.kind == FrameType.ERRORS:
                    errors += frame.payload[: 64 * 1024 - len(errors)]
        finally:
            if not stream.over:
                stream.cancel()
        if status_of(frame) not in {0, SOME_LEFT_OUT} or not extractor.ended:
            raise Failure(what, printable(bytes(errors).strip()) or "the guest sent half of it")
        left_out = tuple(printable(line) for line in bytes(errors).splitlines()[:TOLD_MAX])
        if not extractor.files:
            raise Failure(what, left_out[0] if left_out else "there is nothing")
    report(Progress(task, extractor.bytes, extractor.bytes, finished=True))
    return Copied(extractor.files, extractor.bytes, left_out)


async def put(link: Link, path: Path, guest_path: str, report: Report = silent) -> Copied:
    """Copy a file or a folder of the host to a path in the guest, or into it if it is a folder.

    What is put belongs to the guest's root. Raises Failure; then the files there are whole.
    """
    what = f"cannot copy {path} into the guest"
    with explained(what):
        packer, total = Packer(path), size_of(path)
    stream = await link.open(FrameType.PUT, requests.path(guest_path, packer.name), what)
    sender = asyncio.create_task(_send(stream, packer, report, _task(path), total))
    errors = b""
    try:
        while (frame := await stream.receive()).kind != FrameType.EXIT:
            if frame.kind == FrameType.ERRORS:
                errors += frame.payload[: 4096 - len(errors)]
        if sender.done():
            sender.result()  # why it ended tells more than what came of that
        if status_of(frame):
            raise Failure(what, printable(errors.strip()))
        await sender
    finally:
        sender.cancel()
        if not stream.over:
            stream.cancel()
        with contextlib.suppress(asyncio.CancelledError, Failure):
            await sender
    report(Progress(_task(path), total, total, finished=True))
    return Copied(packer.files, packer.bytes, tuple(packer.left_out))


def _task(path: Path) -> str:
    return f"Copying {path} into the guest"


async def _send(stream: Stream, packer: Packer, report: Report, task: str, total: int) -> None:
    """Send an archive, as long as somebody takes it."""
    try:
        with explained(stream.what):
            for piece in packer.pieces():
                if stream.over:
                    return
                await stream.send(piece)
                report(Progress(task, packer.bytes, total))
    finally:
        stream.end_input()
