"""Virtual machines: the protocol every driver fulfils, supervision, one folder a driver.

Belongs here: starting, finding again, watching and stopping a VM. Does not: what it boots is
made by builders, how errors are noticed is incidents' concern.
"""
