"""Noticing errors: lines are understood, errors recognised, equal ones counted together.

Belongs here: following logs and journals, rules, fingerprints. Does not: acting on an incident;
whoever listens does that.
"""
