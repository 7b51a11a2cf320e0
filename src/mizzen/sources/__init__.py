"""Where pipelines begin: Git repositories and local folders, and noticing that they change.

Belongs here: asking and following sources. Does not: building what they hold (``builders``), and
terms and operations (``steps``).
"""
