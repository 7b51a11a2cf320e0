"""Use cases: what a command or a page asks for, put together from the packages below.

Belongs here: one module a use case, returning values. Does not: printing, exiting.
"""
