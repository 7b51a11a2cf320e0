"""The code page is read back as it was built, and what the guest made of it is never trusted."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mizzen.host.paths import guest_binary
from mizzen.introspection.memory.physical import PAGE
from mizzen.sessions.inject import blob
from mizzen.sessions.inject.blob import HEADER, MAGIC
from mizzen.sessions.inject.hooks import ENDBR64, Hook
from mizzen.sessions.inject.place import Place

CODE = 0xFFFF_FFFF_8400_1000
PLACE = Place(0x1000, CODE, 0xFFFF_8880_0000_2000, 0x5000)
FUNCTIONS = 0xFFFF_FFFF_8100_0000
LINKED = Path(__file__).parents[4] / "guest" / "build" / "attach" / "stage1.elf"


class Kernel:
    """Has every function."""

    def symbol(self, names: str) -> int:
        return FUNCTIONS + sum(names.encode())


def build(count: int) -> bytes:
    return blob.build(
        guest_binary("stage1.bin").read_bytes(),
        1234,
        kernel=Kernel(),
        place=PLACE,
        hooks=[Hook(slot, 0, slot + 1) for slot in range(count)],
        parked=[7],
        token="f" * 32,
    )


@given(st.integers(0, blob.HOOKS_MAX))
def test_hooks_are_read_back_with_their_stubs(count):
    page = build(count)
    stubs = blob.stubs(page, PLACE, count)
    assert blob.read_hooks(page.ljust(PAGE)) == [
        (slot, slot + 1, stubs[slot] - CODE) for slot in range(count)
    ]


def test_every_call_is_a_jump_to_its_function():
    page = build(1)
    _, size, _, names, imports, count, *_ = HEADER.unpack_from(page)
    for number, name in enumerate(page[names:size].split(b"\0")[:count]):
        at = imports + 8 * number
        assert page[at : at + 1] == blob.JUMP
        distance = int.from_bytes(page[at + 1 : at + 5], "little", signed=True)
        assert CODE + at + 5 + distance == Kernel().symbol(name.decode())


def test_what_the_kernel_calls_through_a_pointer_begins_with_endbr64():
    """As it must where the processor tracks indirect branches (IBT), which TCG's cannot."""
    page = build(blob.HOOKS_MAX)
    listed = subprocess.run(["nm", LINKED], capture_output=True, text=True, check=True).stdout
    symbols = {name: int(at, 16) for at, _, name in map(str.split, listed.splitlines())}
    called = [stub - CODE for stub in blob.stubs(page, PLACE, blob.HOOKS_MAX)]
    called += [symbols["work"], symbols["prepare_process"]]
    assert all(page.startswith(ENDBR64, at) for at in called)


@given(st.binary(max_size=400), st.booleans())
def test_any_page_is_read_or_passed_over(beginning, marked):
    page = (MAGIC * marked + beginning).ljust(PAGE, b"\xff")
    assert len(blob.read_hooks(page)) <= blob.HOOKS_MAX
    assert len(blob.read_report(page).hello) <= blob.HELLO_MAX
