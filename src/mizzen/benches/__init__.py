"""Benchmarks: what Mizzen costs and how fast it is, measured as a user would, beside a peer.

Belongs here: one module a benchmark, and what they share: figures, guests, peers. Measured is the
command line, so nothing here knows how sessions work. Does not: goals of other kinds, which are
tests; printing.
"""
