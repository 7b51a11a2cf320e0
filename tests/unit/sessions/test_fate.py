"""Why a guest stopped is read from its kernel's own variables."""

from __future__ import annotations

import pytest
from ram import Ram

from mizzen.sessions.fate import Vitals

PLACES = {"linux_banner": 0x100, "system_state": 0x200, "panic_cpu": 0x300}
RUNNING = 3


class Symbols:
    def __init__(self, *names: str) -> None:
        self._names = names

    def address(self, name: str) -> int | None:
        return PLACES[name] if name in self._names else None


class Kernel:
    def __init__(self, *names: str) -> None:
        self.memory = Ram(4096)
        self.symbols = Symbols(*names)
        self.memory.data[0x100:0x10D] = b"Linux version"
        self.set("system_state", RUNNING)
        self.set("panic_cpu", -1)

    def physical(self, virtual: int) -> int:
        return virtual

    def set(self, name: str, value: int) -> None:
        place = PLACES[name]
        self.memory.data[place : place + 4] = value.to_bytes(4, "little", signed=True)


@pytest.fixture
def kernel():
    return Kernel(*PLACES)


def test_a_running_kernel_gives_no_reason(kernel):
    assert Vitals(kernel).reason() is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("panic_cpu", 0, "panicked"),
        ("system_state", RUNNING + 1, "halted"),
        ("system_state", RUNNING + 2, "powering off"),
        ("system_state", RUNNING + 3, "rebooting"),
    ],
)
def test_a_stopped_kernel_says_why(kernel, name, value, words):
    vitals = Vitals(kernel)
    kernel.set(name, value)
    assert words in vitals.reason()


@pytest.mark.parametrize(
    ("state", "reason"), [(RUNNING + 3, "the guest is rebooting, or has"), (-7, None)]
)
def test_a_kernel_that_is_overwritten_has_not_panicked(kernel, state, reason):
    vitals = Vitals(kernel)
    kernel.set("system_state", state)
    kernel.set("panic_cpu", 0)
    assert vitals.reason() == reason


def test_memory_that_somebody_else_uses_means_a_reboot(kernel):
    vitals = Vitals(kernel)
    kernel.memory.data[0x100] ^= 1
    assert "rebooted" in vitals.reason()


def test_a_kernel_that_names_no_variables_gives_no_reason():
    kernel = Kernel()
    vitals = Vitals(kernel)
    kernel.set("panic_cpu", 0)
    assert vitals.reason() is None
