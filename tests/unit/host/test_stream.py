import asyncio
import contextlib
import subprocess
import sys

import pytest

from mizzen.host.process import ProcessId, find_by_identity, start_time, stream
from mizzen.model.errors import Failure


def test_lines_come_while_the_program_runs_and_it_ends_with_the_reader():
    async def scenario():
        script = "echo $$; echo two; exec sleep 300"
        async with contextlib.aclosing(stream("sh", "-c", script, what="test")) as lines:
            pid = int(await anext(lines))
            assert await anext(lines) == b"two"
            assert start_time(pid)
        assert not start_time(pid)

    asyncio.run(scenario())


def test_cancelling_the_reader_ends_the_program():
    async def scenario():
        pids: asyncio.Queue[int] = asyncio.Queue()

        async def read():
            async with contextlib.aclosing(stream("sh", "-c", "echo $$; sleep 300", what="t")) as s:
                async for line in s:
                    pids.put_nowait(int(line))

        task = asyncio.create_task(read())
        pid = await pids.get()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert not start_time(pid)

    asyncio.run(scenario())


def test_a_program_that_fails_is_explained_by_its_last_words():
    async def scenario():
        async with contextlib.aclosing(
            stream("sh", "-c", "echo out; echo broken >&2; exit 3", what="cannot follow")
        ) as lines:
            return [line async for line in lines]

    with pytest.raises(Failure, match="cannot follow: broken"):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--id", "vm-17x"],
        ["--id=vm-17x"],
        ["-name", "vm-17x"],
        ["-name", "guest=vm-17x,process=y"],
        ["-name", "vm-17x,debug-threads=on"],
    ],
)
def test_a_hypervisor_is_found_by_the_id_it_was_given(arguments):
    sleeper = [sys.executable, "-c", "import time; print(flush=True); time.sleep(300)"]
    other = subprocess.Popen([*sleeper, "--id", "vm-17"], stdout=subprocess.PIPE)
    process = subprocess.Popen([*sleeper, "-m", "1", *arguments], stdout=subprocess.PIPE)
    with other, process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            found = find_by_identity("vm-17x")
        finally:
            process.kill()
            other.kill()
    assert [one.pid for one in found] == [process.pid]
    assert isinstance(found[0], ProcessId)
