"""Getting code to run in the guest kernel, without its help and without stopping it.

Belongs here: where stage 1 is put, what calls it, what it reports. Does not: what is done once
stage 2 runs; that is channel and session.
"""
