"""The network: addresses, links, publications and isolation, and the daemon that keeps them.

Belongs here: what a change does to nftables and links (``plan``, pure), doing it, the daemon, its
protocol and its client. Does not: machines, and deciding when to switch. ``publish`` and
``control`` import it.
"""
