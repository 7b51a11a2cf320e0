"""What names ports is read or refused."""

from __future__ import annotations

import pytest

from mizzen.model.errors import UsageError
from mizzen.sessions.forward import Forward


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("8080:80", Forward(80, "127.0.0.1", 8080)),
        ("0:80", Forward(80, "127.0.0.1", 0)),
        ("0.0.0.0:8080:80", Forward(80, "0.0.0.0", 8080)),
        ("[::1]:8080:80", Forward(80, "::1", 8080)),
    ],
)
def test_ports_are_read(text, wanted):
    assert Forward.parse(text) == wanted


@pytest.mark.parametrize("text", ["", "80", "x:80", "80:0", "80:70000", ":80", "8080:", "1:2:x"])
def test_anything_else_is_refused(text):
    with pytest.raises(UsageError):
        Forward.parse(text)
