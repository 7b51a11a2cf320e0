"""Rollouts: start a release, probe it, switch to it, drain the one before, retire that.

Belongs here: services, releases, probing, and the order of a rollout and of a rollback. Does not:
how a machine is built and started (handed in), how ports lead anywhere (``network``), and
recording incidents (``control``).
"""
