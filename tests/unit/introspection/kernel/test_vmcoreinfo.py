"""The kernel's note is found in RAM, where anybody can write what begins like one."""

from __future__ import annotations

import pytest
from kernel import Kernel

from mizzen.introspection.kernel import vmcoreinfo
from mizzen.introspection.kernel.btf import Unknown
from mizzen.introspection.kernel.objects import Objects

OWN = b"OSRELEASE=6.6.6\nNUMBER(phys_base)=16777216\nSYMBOL(prb)=ffff888000000000\n"


@pytest.mark.parametrize("line", [b"=" * 500_000, b"OSRELEASE=" * 50_000, b"a=b\n" * 100_000])
def test_a_line_that_goes_on_and_on_hides_no_note(line):
    kernel = Kernel()
    kernel.memory.write(0x1000, b"OSRELEASE=a\n" + line)
    kernel.memory.write(0xF0000, OWN + b"\0")
    assert vmcoreinfo.text(Objects(kernel, None)) == OWN


def test_a_note_of_another_kernel_is_none():
    kernel = Kernel()
    kernel.memory.write(0x1000, OWN.replace(b"6.6.6", b"6.6.5") + b"\0")
    kernel.memory.write(0x3008, OWN + b"\0")
    with pytest.raises(Unknown, match="no vmcoreinfo"):
        vmcoreinfo.text(Objects(kernel, None))
