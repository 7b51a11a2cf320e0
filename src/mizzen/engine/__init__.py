"""The incremental engine: terms, what they come of, and keeping the world as they say.

Belongs here: terms and their graph, operations and the jobs that run them, results that are
remembered, pools, the picture of a graph. Does not: any operation in particular (``steps``), and
anything about machines, networks or Git.
"""
