"""Enter a running guest from outside, through its memory alone.

inject/ gets code to run, channel and session carry commands, files and connections. Everything
that only looks is in introspection. Knows nothing of how machines are started.
"""
