"""What a guest's kernel knows, as values: processes, log, memory, mounts, sockets, its own state.

Belongs here: one module a view, a pure function over ``kernel.objects`` that returns a value.
Does not: opening anything, printing. A view raises Unknown or BadAddress if it cannot be had at
all; of a list that breaks off it returns what there is, and why there is no more.
"""
