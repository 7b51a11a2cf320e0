from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.control.machines import name_for, parse_publication
from mizzen.model.errors import UsageError
from mizzen.model.machine import Port, check_name
from mizzen.model.network import Transport


@given(st.text(max_size=80))
def test_any_source_makes_a_valid_name(source):
    check_name(name_for(source.replace("\0", "")))


def test_name_is_the_sources_last_part():
    assert name_for("registry.example/team/web:1.2").startswith("web-")


def test_publications():
    assert parse_publication("8080:80") == Port(8080, 80)
    assert parse_publication("80") == Port(0, 80)
    assert parse_publication("5300:53/udp") == Port(5300, 53, Transport.UDP)
    assert parse_publication("80/tcp") == Port(0, 80)
    with pytest.raises(UsageError, match="HOST:GUEST"):
        parse_publication("http")
