"""Guest RAM from outside: which memory of a hypervisor it is, and how to read and write it.

Belongs here: everything that asks Linux about the hypervisor's process. Does not: any meaning of
the bytes.
"""
