from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.control.machines import name_for, parse_publication
from mizzen.model.errors import UsageError
from mizzen.model.machine import Port, check_name, joined
from mizzen.model.network import Transport


@given(st.text(max_size=80))
def test_any_source_makes_a_valid_name(source):
    check_name(name_for(source.replace("\0", "")))


def test_name_is_the_sources_last_part():
    assert name_for("registry.example/team/web:1.2").startswith("web-")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), ""),
        (("--listen=10.0.0.2:80", "--sick"), "--listen=10.0.0.2:80 --sick"),
        (("--hello=a b", ""), '"--hello=a b" ""'),
        (('--say="x\\y"',), '"--say=\\"x\\\\y\\""'),
    ],
)
def test_arguments_of_a_unikernel_are_one_line(arguments, line):
    assert joined(arguments) == line


@pytest.mark.parametrize("argument", ["a\nb", "\0", "\x7f"])
def test_what_no_line_can_hold_is_refused(argument):
    with pytest.raises(UsageError, match="not printable"):
        joined([argument])


def test_publications():
    assert parse_publication("8080:80") == Port(8080, 80)
    assert parse_publication("80") == Port(0, 80)
    assert parse_publication("5300:53/udp") == Port(5300, 53, Transport.UDP)
    assert parse_publication("80/tcp") == Port(0, 80)
    with pytest.raises(UsageError, match="HOST:GUEST"):
        parse_publication("http")
