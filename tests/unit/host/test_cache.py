import asyncio
import tempfile

import pytest

from mizzen.host.cache import PREFIX, bench, keep
from mizzen.model.errors import Failure


def test_many_are_at_their_benches_at_a_time_and_leave_nothing(tmp_path):
    async def run():
        async with bench(tmp_path, "x") as one, bench(tmp_path, "x") as other:
            assert one != other
            (one / "file").write_text("made")
            keep(one / "file", tmp_path / "made")
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "made"}

    asyncio.run(run())


def test_what_a_killed_builder_left_is_swept_away_by_the_next(tmp_path):
    tempfile.mkdtemp(prefix=PREFIX, dir=tmp_path)

    async def run():
        async with bench(tmp_path, "x") as folder:
            assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]

    asyncio.run(run())


def test_a_refusal_of_the_system_is_told(tmp_path):
    async def run():
        async with bench(tmp_path, "cannot make it") as folder:
            (folder / "none/file").write_text("x")

    with pytest.raises(Failure, match=r"cannot make it: .*No such file"):
        asyncio.run(run())
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
