"""``mizzen up``: runs the engine, and answers at the control socket and over HTTP.

Belongs here: wiring, signals, what is served. Does not: what commands print (``cli``), asking at
the socket (``control``).
"""
