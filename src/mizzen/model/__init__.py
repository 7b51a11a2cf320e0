"""Values that every other package speaks of: specs, states, events, errors.

Belongs here: frozen dataclasses and pure functions on them. Does not: anything that reads a
file, a clock or a socket. Imported by everyone; imports nobody.
"""
