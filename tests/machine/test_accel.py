from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

from mizzen.machines.qemu import accel
from mizzen.model.machine import Accel
from mizzen.model.progress import Progress, silent
from mizzen.store import database

pytestmark = pytest.mark.machine


def test_kvm_is_tried_once_and_remembered(bookworm, tmp_path):
    with closing(database.connect(tmp_path / "db")) as connection:
        first = asyncio.run(accel.choose(None, bookworm, connection, silent))
        reports: list[Progress] = []
        second = asyncio.run(accel.choose(None, bookworm, connection, reports.append))
    assert first == second
    assert isinstance(second, Accel)
    assert reports == [], "nothing is tried again"


def test_what_is_wanted_is_taken(bookworm, tmp_path):
    with closing(database.connect(tmp_path / "db")) as connection:
        assert asyncio.run(accel.choose(Accel.TCG, bookworm, connection, silent)) is Accel.TCG
