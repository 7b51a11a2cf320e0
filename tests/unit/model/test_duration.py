import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.model.duration import seconds


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("500ms", 0.5), ("30s", 30), ("1m", 60), ("1.5h", 5400), (" 2d ", 172800), (2, 2), (0.1, 0.1)],
)
def test_lengths_of_time_are_read(text, wanted):
    assert seconds(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "1", "-1s", "1 week", "0s", 0, -1, float("nan"), "s", "1e3s", [1], None]
)
def test_others_are_refused(text):
    with pytest.raises(ValueError, match="is no length of time"):
        seconds(text)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ValueError):
        assert seconds(text) > 0
