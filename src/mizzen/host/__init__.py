"""Linux as seen from Python: processes, folders, files, capabilities.

Belongs here: the one place that spawns processes, and thin wrappers that explain the system's
refusals. Does not: anything that knows what a machine or an image is.
"""
