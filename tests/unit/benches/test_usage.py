"""What the kernel tells of processes is read right."""

from __future__ import annotations

from mizzen.benches.usage import Mapping, cpu_ticks, parse_smaps

SMAPS = """\
7f0000000000-7f0010000000 rw-p 00000000 00:00 0
Size:             262144 kB
Rss:              102400 kB
Pss:              102400 kB
VmFlags: rd wr mr mw me ac sd hg
7f0020000000-7f0024000000 rwxp 00000000 00:00 0                          [anon: code]
Rss:                4096 kB
55d000000000-55d000001000 r--p 00000000 fe:00 12                         /usr/bin/qemu
Rss:                   4 kB
"""


def test_ticks_are_read_behind_a_name_with_spaces_and_brackets():
    assert cpu_ticks("7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 120 34 5 6 20 0 1 0 99\n") == 154


def test_mappings_have_permissions_and_resident_bytes():
    assert list(parse_smaps(SMAPS)) == [
        Mapping("rw-p", 102400 << 10),
        Mapping("rwxp", 4096 << 10),
        Mapping("r--p", 4 << 10),
    ]
