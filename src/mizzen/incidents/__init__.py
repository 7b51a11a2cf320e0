"""Noticing errors: lines are understood, errors recognised, equal ones counted together.

Belongs here: following logs and journals, rules, fingerprints. Does not: acting on an incident;
whoever listens does that.

The way of a line: ``follow`` or ``journal`` reads it, ``grouping`` puts it together with those
it belongs to, ``lines`` says what it tells, ``rules`` whether that is an error, ``fingerprint``
which one, and ``watcher`` records it. All but the first and the last are pure.
"""
