"""Figures say what was measured, and whether that is what was wanted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from mizzen.benches.figures import Goal, figure, missed_first, paired_ratio, percentile

NUMBERS = some.lists(some.floats(0.001, 1e6), min_size=1, max_size=300)


def test_the_99th_percentile_of_a_hundred_is_the_last_but_one():
    assert percentile(range(1, 101), 99) == 99
    assert percentile([3, 1, 2], 99) == 3
    assert percentile([7], 99) == 7


@given(NUMBERS)
def test_a_percentile_is_one_of_the_values_and_exceeds_so_many(values):
    found = percentile(values, 99)
    assert found in values
    assert sum(value <= found for value in values) >= 0.99 * len(values)


def test_a_ratio_is_taken_pair_by_pair():
    # The host became ten times slower half-way: the ratio is the same.
    assert paired_ratio([1, 1, 10, 10], [2, 2, 20, 20]) == 0.5
    with pytest.raises(ValueError, match="argument 2"):
        paired_ratio([1], [1, 2])


def test_all_goals_must_be_met():
    goals = (Goal("ratio", 0.5), Goal("p99 ratio", 1))
    good = figure("echo", "ms", [1, 2], *goals, peer=("ssh", [4, 8]))
    bad = figure("echo", "ms", [1, 9], *goals, peer=("ssh", [4, 8]))
    assert (good.met, bad.met) == (True, False)
    assert good.goal == "ratio <= 0.5 and p99 ratio <= 1"


def test_a_goal_can_be_a_least():
    goal = Goal("median", 50, least=True)
    assert figure("output", "MB/s", [60], goal).met
    assert not figure("output", "MB/s", [40], goal).met
    assert str(goal) == "median >= 50"


def test_a_goal_about_a_peer_is_missed_without_one():
    assert figure("echo", "ms", [1], Goal("ratio", 1)).met is False


def test_goals_missed_come_first_and_figures_without_last():
    met = figure("met", "s", [1], Goal("median", 2))
    missed = figure("missed", "s", [3], Goal("median", 2))
    free = figure("free", "s", [1])
    assert free.met is None
    assert missed_first([free, met, missed]) == [missed, met, free]
