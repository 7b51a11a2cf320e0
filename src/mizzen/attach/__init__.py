"""Enter a running guest from outside, through its memory alone.

memory/ finds and reads guest RAM, paging/ walks page tables, kernel/ reads the kernel's own
tables, inject/ gets code to run, session carries the terminal. paging/ and kernel/ are pure
functions over a memory protocol. Knows nothing of how machines are started.
"""
