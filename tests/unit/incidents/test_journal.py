import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.host.paths import Folders
from mizzen.incidents.journal import newest, parse_entry
from mizzen.incidents.rules import rules
from mizzen.incidents.watcher import Seen, Watcher
from mizzen.store import followed, incidents
from mizzen.store.database import connect

UNIT = "vhive.service"
REMOTE = Path("/lib/systemd/systemd-journal-remote")


class Journal:
    """A real journal file, written by systemd's own tool."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.place = (f"--directory={folder}",)
        self._written = 0
        self._writer = subprocess.Popen(
            [REMOTE, f"--output={folder / 'test.journal'}", "-"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def write(self, message: bytes, unit: str = UNIT, pid: int = 7, priority: int = 6) -> None:
        self._written += 1
        fields = {
            "__REALTIME_TIMESTAMP": int(time.time() * 1e6),
            "__MONOTONIC_TIMESTAMP": self._written,
            "_BOOT_ID": "1".zfill(32),
            "_MACHINE_ID": "2".zfill(32),
            "_SYSTEMD_UNIT": unit,
            "_PID": pid,
            "PRIORITY": priority,
        }
        text = "".join(f"{key}={value}\n" for key, value in fields.items()).encode()
        size = len(message).to_bytes(8, "little")
        assert self._writer.stdin is not None
        self._writer.stdin.write(text + b"MESSAGE\n" + size + message + b"\n\n")
        self._writer.stdin.flush()

    def close(self) -> None:
        self._writer.communicate()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


@contextlib.asynccontextmanager
async def watched(folder: Path, journal: Journal):
    folders = Folders(folder / "state", folder / "run")
    seen: asyncio.Queue[Seen] = asyncio.Queue()
    connection = connect(folders.database)
    watcher = Watcher(folders, connection, rules(), seen.put_nowait)
    task = asyncio.create_task(watcher.run(UNIT, journal.place))
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        connection.close()


async def written(journal: Journal) -> None:
    """Wait until the journal's writer has written something."""
    while not await newest(UNIT, *journal.place):
        pass


async def begun(folder: Path) -> None:
    """Wait until the watcher knows what is history, so that what comes now is none."""
    with contextlib.closing(connect(folder / "state" / "mizzen.db")) as connection:
        while not followed.sources(connection):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.01)
        assert not incidents.everything(connection)


def test_errors_in_a_journal_are_those_of_the_vms_it_names(tmp_path, journal):
    async def scenario():
        journal.write(b'time="t" level=error msg="ERROR: history" vmID=2')
        await written(journal)
        async with watched(tmp_path, journal) as seen:
            await begun(tmp_path)
            journal.write(b'time="t" level=info msg="started" vmID=2')
            journal.write(b"ERROR: of somebody else", unit="other.service")
            journal.write(b'time="t" level=info msg="ERROR: some error 17" vmID=2')
            first = (await seen.get()).incident
            assert (first.source, first.message) == ("vm 2", "ERROR: some error 17")
            journal.write(b"\xff is no UTF-8", priority=3)
            second = (await seen.get()).incident
            assert (second.source, second.message) == (f"unit {UNIT}", "\ufffd is no UTF-8")
        journal.write(b'time="t" level=error msg="ERROR: some error 18" vmID=2')
        journal.write(b'level=error msg="ERROR: some error 18" vmID=3')
        async with watched(tmp_path, journal) as seen:
            again, other = await seen.get(), await seen.get()
            assert (again.new, again.incident.id, again.incident.count) == (False, first.id, 2)
            assert (other.new, other.incident.source) == (True, "vm 3")

    asyncio.run(scenario())


def test_lines_of_two_processes_are_not_mixed(tmp_path, journal):
    async def scenario():
        async with watched(tmp_path, journal) as seen:
            await begun(tmp_path)
            for line in (b"Traceback (most recent call last):", b'  File "a", line 1, in f'):
                journal.write(line, pid=7)
                journal.write(b"fine", pid=8)
            journal.write(b"KeyError: 1", pid=7)
            found = (await seen.get()).incident
            assert (found.message, len(found.lines)) == ("KeyError: 1", 3)

    asyncio.run(scenario())


ENTRY = {"__CURSOR": "c", "MESSAGE": "m"}


@given(st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
    lambda value: json.dumps(ENTRY | {"MESSAGE": value, "__REALTIME_TIMESTAMP": value}).encode()
))  # fmt: skip
def test_any_entry_can_be_read(line):
    parse_entry(line)
