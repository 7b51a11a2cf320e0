from __future__ import annotations

from mizzen.host import tsc


def test_rate_is_that_of_a_processor_and_stable():
    first, second = tsc.measure_khz(), tsc.measure_khz()
    assert 500_000 < first < 10_000_000
    assert abs(first - second) < first / 100
