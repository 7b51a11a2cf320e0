"""Look at a guest from outside: its memory, its page tables, its kernel's own data.

memory/ finds and reads guest RAM, paging/ walks page tables, kernel/ reads the kernel's tables.
paging/ and kernel/ are pure functions over a memory protocol: a running guest and a dump file are
alike to them. Writes nothing by itself; sessions does, through the same protocol.
"""
