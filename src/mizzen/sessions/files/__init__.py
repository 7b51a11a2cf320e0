"""Copying trees of files in and out: the archive they travel as, packing, and extracting.

Talking to the guest does not belong here; that is ``sessions.copy``.
"""
