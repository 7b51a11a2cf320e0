from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mizzen.machines.config import records, segment
from mizzen.model.errors import Failure
from mizzen.model.image import ProcessConfig
from mizzen.model.machine import MachineNetwork, MachineSpec

SPEC = MachineSpec(
    name="web",
    reference="x",
    kernel=Path("k"),
    initramfs=Path("i"),
    root=Path("r"),
    process=ProcessConfig(("/app", "--port=80"), ("A=b=c", "B="), "ada:77", "/srv"),
)


def test_init_is_told_all_it_needs():
    assert list(records(SPEC, 1700000000.9)) == [
        ("root", "/dev/vda"),
        ("argument", "/app"),
        ("argument", "--port=80"),
        ("environment", "A=b=c"),
        ("environment", "B="),
        ("user", "ada:77"),
        ("directory", "/srv"),
        ("hostname", "web"),
        ("address", "10.0.2.15/24"),
        ("gateway", "10.0.2.2"),
        ("time", "1700000000"),
    ]


def test_machine_with_a_link_gets_its_own_addresses_and_nothing_else_on_the_link():
    network = MachineNetwork(
        ("10.70.0.0/24", "fd70::/64"),
        addresses=("10.70.0.2", "fd70::2"),
        gateways=("10.70.0.1", "fd70::1"),
    )
    told = list(records(replace(SPEC, network=network), 0))
    assert told[-5:-1] == [
        ("address", "10.70.0.2/32"),
        ("address", "fd70::2/128"),
        ("gateway", "10.70.0.1"),
        ("gateway", "fd70::1"),
    ]


def test_machine_without_root_stays_in_its_initramfs():
    assert "root" not in dict(records(replace(SPEC, root=None), 0))


def test_segment_is_an_archive_of_records_that_end_in_nul():
    data = segment(SPEC, 0)
    assert b"argument=/app\0argument=--port=80\0environment=A=b=c\0" in data
    assert len(data) % 512 == 0


def test_nul_in_an_argument_is_refused():
    with pytest.raises(Failure, match="NUL"):
        segment(replace(SPEC, process=ProcessConfig(("a\0b",))), 0)
