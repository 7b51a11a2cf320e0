"""A folder of this host as a read-only file system in a guest: the server's half of FUSE.

Belongs here: what /dev/fuse says, and the files it is about. Does not: how messages travel.
"""
