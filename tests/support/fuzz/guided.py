"""The part that libFuzzer runs, in a process that it ends: see ``__main__``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["mizzen"]):
    from fuzz.kept import SIZE_MAX
    from fuzz.limits import limited
    from fuzz.targets import TARGETS


def main(name: str, seconds: str, scratch: str, corpus: str) -> None:
    target = TARGETS[name]

    def test(data: bytes) -> None:
        with limited():
            target(data)

    options = (
        f"-max_total_time={seconds}",
        f"-max_len={SIZE_MAX}",
        f"-artifact_prefix={corpus}/",
        "-rss_limit_mb=4096",
        "-timeout=60",
        "-report_slow_units=60",  # by the clock, which is the host's affair: limited() counts CPU
    )
    atheris.Setup(["fuzz", scratch, corpus, *options], test)
    atheris.Fuzz()


main(*sys.argv[1:])
