"""The matrix's kernels and roots, made when first asked for, and its results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from matrix.cases import CASES, PAIRS, UEFI, Case
from matrix.kernels import KERNELS, SIX_ONE, Stock
from matrix.machines import Files
from matrix.results import Store
from matrix.sources import Built, Trees
from matrix.states import SYSTEMD

from matrix import kernels, results, roots
from mizzen.host.paths import Folders

PAGE = Path(__file__).parents[2] / "docs" / "matrix.md"
BUILD_SECONDS = 3 * 3600


def given(config: pytest.Config) -> dict[str, Built]:
    """Kernels whose whole configuration is named on the command line."""
    paths = map(Path, config.getoption("--matrix-config"))
    return {f"{SIX_ONE[1][-3:]} {path.stem}": Built(*SIX_ONE, whole=path) for path in paths}


def chosen(config: pytest.Config) -> tuple[Case, ...]:
    if not config.getoption("--matrix"):
        return PAIRS
    return (*CASES, *map(Case, given(config)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    known = {**KERNELS, **given(metafunc.config)}
    building = pytest.mark.timeout(BUILD_SECONDS)
    metafunc.parametrize(
        "case",
        [
            pytest.param(
                case, id=case.name, marks=building if isinstance(known[case.kernel], Built) else ()
            )
            for case in chosen(metafunc.config)
        ],
    )


@pytest.fixture(scope="session")
def files_of(cache: Folders, request: pytest.FixtureRequest) -> Iterator[Callable[[Case], Files]]:
    """What a case boots from, fetched or built when it is first asked for."""
    known = {**KERNELS, **given(request.config)}
    with ExitStack() as stack:
        trees = Trees(cache, stack)

        async def get(case: Case) -> Files:
            kernel = known[case.kernel]
            uefi = case.machine == UEFI
            systemd = case.state == SYSTEMD and isinstance(kernel, Stock)
            return Files(
                await kernels.get(cache, trees, kernel),
                firmware=await kernels.firmware(cache) if uefi else None,
                root=await roots.get(cache, kernel.suite) if systemd else None,
            )

        yield lambda case: asyncio.run(get(case))


@pytest.fixture(scope="session")
def store(cache: Folders, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Results of this run and of earlier ones; the page is written from them at the end."""
    found = Store(cache.state / "matrix.json")
    yield found
    if request.config.getoption("--matrix-report"):
        rows = found.all()
        PAGE.write_text(
            results.render(rows[c.name] for c in chosen(request.config) if c.name in rows)
        )
