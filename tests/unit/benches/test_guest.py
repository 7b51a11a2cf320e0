"""The guest is a stranger's: nothing about it helps Mizzen."""

from __future__ import annotations

from pathlib import Path

import pytest

from mizzen.benches.guest import Boot, command
from mizzen.model.image import Kernel
from mizzen.model.machine import Accel

KERNEL = Kernel(Path("/k/vmlinuz"), "6.1", None, "digest")


@pytest.mark.parametrize("accel", list(Accel))
def test_its_memory_is_the_hypervisors_own_and_its_network_a_tap(accel):
    words = command(Boot(KERNEL, accel, Path("/i")), 256, 7, 2_000_000)
    assert words[words.index("-m") + 1] == "256M"
    assert not any("memory-backend" in word for word in words)
    assert "tap,id=net,ifname=tap0,script=no,downscript=no" in words
    assert ("tsc_early_khz=2000000" in " ".join(words)) == (accel is Accel.TCG)
