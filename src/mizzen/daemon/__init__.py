"""``mizzen up``: loads pipelines, runs the engine, and answers at the control socket.

Belongs here: wiring, signals, what is served over HTTP. Does not: what commands print (``cli``).
"""
