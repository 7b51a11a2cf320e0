"""The matrix's own parts, and that its page is what its tests wrote."""

from __future__ import annotations

from itertools import combinations, product
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from matrix.cases import CASES, PAIRS, Case
from matrix.kernels import BUILT, KERNELS, STOCK
from matrix.states import STATES

from matrix import machines, pairwise, results, sources

PAGE = Path(__file__).parents[2] / "docs" / "matrix.md"

PARAMETERS = st.lists(st.integers(1, 5), min_size=2, max_size=5).map(
    lambda counts: {f"p{i}": list(range(count)) for i, count in enumerate(counts)}
)


@given(PARAMETERS)
def test_every_two_values_meet(parameters):
    rows = pairwise.rows(parameters)
    for one, other in combinations(parameters, 2):
        met = {(row[one], row[other]) for row in rows}
        assert met == set(product(parameters[one], parameters[other]))
    assert pairwise.rows(parameters) == rows


def test_pairs_are_few():
    assert len(PAIRS) <= 26


def test_cases_name_what_exists_and_differ():
    assert {case.kernel for case in CASES} == set(KERNELS)
    assert {case.state for case in CASES} == set(STATES)
    assert len({case.name for case in CASES}) == len(CASES)


def test_ci_needs_no_kernel_that_is_built():
    assert {case.kernel for case in PAIRS} <= set(STOCK)


def test_configurations_exist_and_differ():
    built = [(kernel.package, kernel.image, kernel.config()) for kernel in BUILT.values()]
    assert len(set(built)) == len(built)


def test_a_later_fragment_overrides():
    text = "# words\nCONFIG_A=y\nCONFIG_B=3\n# CONFIG_A is not set\n"
    assert sources.merged(text) == "# CONFIG_A is not set\nCONFIG_B=3\n"


def test_options_that_were_not_taken_over_are_told_but_not_those_the_source_lacks():
    config = "CONFIG_A=y\n# CONFIG_B is not set\n"
    assert sources.unheeded("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n", config) == ["CONFIG_B=y"]


def test_old_qemu_gets_a_guest_that_does_without_cmpxchg16b():
    assert "clearcpuid" in machines.parameters(Case("6.1 cloud"), 7, 1000)
    assert "clearcpuid" not in machines.parameters(Case("6.1 cloud"), 8, 1000)


def rows():
    ran = {"date": "2026-01-02", "mizzen": "0.1.0", "qemu": "7.2.22"}
    found = {"release": "6.1.0-1", "pairs": True, **ran}
    yield results.row(Case("6.1 cloud"), outcome="works", seconds=1.25, **found)
    yield results.row(
        Case("tiny", parameters="pti=on"), outcome="fails: a | b\n", seconds=None, **found
    )


def test_a_page_reads_back_as_what_it_was_made_from():
    page = results.render(rows())
    assert results.parse(page) == list(rows())
    assert "fails: a / b" in page


def test_results_are_kept_by_name(tmp_path):
    store = results.Store(tmp_path / "deep" / "matrix.json")
    first, second = rows()
    store.add("one", first)
    store.add("other", second)
    store.add("one", second)
    assert store.all() == {"one": second, "other": second}


def test_the_page_is_what_the_tests_wrote():
    page = PAGE.read_text()
    found = results.parse(page)
    assert results.render(found) == page
    assert len(found) >= len(PAIRS)
