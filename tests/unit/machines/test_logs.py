from __future__ import annotations

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mizzen.machines import logs
from mizzen.model.log import Stream

TIME = "2026-01-02T03:04:05.000000006Z"


def read(path: Path) -> list[tuple[Stream, str]]:
    async def collect() -> list[tuple[Stream, str]]:
        return [(r.stream, r.text) async for r in logs.records(path, lambda: False)]

    return asyncio.run(collect())


def test_parts_are_joined_by_stream(tmp_path):
    log = tmp_path / "log"
    log.write_text(
        f"{TIME} stdout P one \n{TIME} stderr F other\n{TIME} stdout F two\nnonsense\n"
        f"{TIME} stdout P cut"
    )
    assert read(log) == [
        (Stream.STDERR, "other"),
        (Stream.STDOUT, "one two"),
        (Stream.STDOUT, "cut"),
    ]


def test_missing_file_has_no_lines(tmp_path):
    assert read(tmp_path / "none") == []


def test_following_sees_what_is_written_up_to_the_end(tmp_path):
    log = tmp_path / "log"
    log.write_text("one\ntw")
    steps = iter(["o\n", "three"])

    def alive() -> bool:
        text = next(steps, None)
        if text is not None:
            with log.open("a") as file:
                file.write(text)
        return text == "o\n"

    async def collect() -> list[str]:
        return [line async for line in logs.lines(log, alive)]

    assert asyncio.run(collect()) == ["one", "two", "three"]


@given(st.binary(max_size=2000))
def test_any_bytes_are_read(tmp_path_factory, data):
    log = tmp_path_factory.mktemp("logs") / "log"
    log.write_bytes(data)
    for _, text in read(log):
        assert "\n" not in text
