"""Notice that somebody else has removed the daemon's table, as ``nft flush ruleset`` does.

Source: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

from . import netlink

_GROUP = 7  # NFNLGRP_NFTABLES
_DELETED = 10 << 8 | 2  # NFNL_SUBSYS_NFTABLES, NFT_MSG_DELTABLE
_INET, _GENERIC = 1, 4  # NFPROTO_INET, bytes of struct nfgenmsg
_NAME = 1  # NFTA_TABLE_NAME
_BUFFER = 1 << 16
_TABLE = b"mizzen\0"


@contextlib.contextmanager
def watching() -> Iterator[socket.socket]:
    """Yield a socket that is told of every change of nftables. Raises OSError."""
    with netlink.connect(netlink.NETFILTER) as connection:
        netlink.join(connection, _GROUP)
        yield connection


async def removed(connection: socket.socket) -> None:
    """Wait until the table has been removed, or may have been. Raises OSError."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            packet = await loop.sock_recv(connection, _BUFFER)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return  # more was changed at once than there was room to tell
        if tells_removal(packet):
            return


def discard(connection: socket.socket) -> None:
    """Take in what has been told so far, whatever it is."""
    with contextlib.suppress(BlockingIOError):
        while True:
            try:
                connection.recv(_BUFFER)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise


def tells_removal(packet: bytes) -> bool:
    """Return whether one of the messages in a packet says that the table has been removed."""
    return any(_is_removal(message) for message in netlink.messages(packet))


def _is_removal(message: netlink.Message) -> bool:
    if message.kind != _DELETED or message.body[:1] != bytes([_INET]):
        return False
    return netlink.find(message.body, _NAME, _GENERIC) == _TABLE
