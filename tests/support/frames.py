"""Ethernet frames, written and read on a tap."""

from __future__ import annotations

import os
import select
import struct
import time
from ipaddress import ip_address

VNET_HEADER = 10
"""Bytes of struct virtio_net_hdr before each frame."""

BROADCAST = "ff:ff:ff:ff:ff:ff"


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(to: str, sender: str, kind: int, content: bytes) -> bytes:
    return mac_bytes(to) + mac_bytes(sender) + struct.pack("!H", kind) + content


def checksum(data: bytes) -> int:
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(to: str, sender: str, source: str, target: str, protocol: int, content: bytes) -> bytes:
    """Return a frame with an IPv4 or IPv6 packet."""
    ends = ip_address(source).packed + ip_address(target).packed
    if len(ends) == 8:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 1, 0, 255, protocol, 0)
        total = checksum(head + ends)
        return ethernet(to, sender, 0x0800, head[:10] + struct.pack("!H", total) + ends + content)
    head = struct.pack("!IHBB", 6 << 28, len(content), protocol, 255)
    return ethernet(to, sender, 0x86DD, head + ends + content)


def udp(to: str, sender: str, source: str, target: str, port: int, content: bytes) -> bytes:
    """Return a frame with a datagram from port 1000."""
    ends = ip_address(source).packed + ip_address(target).packed
    head = struct.pack("!HHHH", 1000, port, 8 + len(content), 0)
    pseudo = ends + struct.pack("!II", 8 + len(content), 17)
    total = checksum(pseudo + head + content) or 0xFFFF
    datagram = head[:6] + struct.pack("!H", total) + content
    return ip(to, sender, source, target, 17, datagram)


def arp(sender: str, claimed: str, asked: str, *, operation: int = 1, to: str = BROADCAST) -> bytes:
    """Return a frame that says: the claimed address is at the sender's MAC."""
    content = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    content += mac_bytes(sender) + ip_address(claimed).packed
    content += bytes(6) + ip_address(asked).packed
    return ethernet(to, sender, 0x0806, content)


def icmp6(
    to: str, sender: str, source: str, target: str, kind: int, fields: int, content: bytes
) -> bytes:
    """Return a frame with an ICMPv6 message. fields: the 32 bits behind its checksum."""
    ends = ip_address(source).packed + ip_address(target).packed
    rest = struct.pack("!I", fields) + content
    pseudo = ends + struct.pack("!II", 4 + len(rest), 58)
    total = checksum(pseudo + struct.pack("!BBH", kind, 0, 0) + rest)
    return ip(to, sender, source, target, 58, struct.pack("!BBH", kind, 0, total) + rest)


def neighbour(
    sender: str, source: str, target: str, about: str, *, solicits: bool, to: str
) -> bytes:
    """Return a neighbour solicitation, or an advertisement that overrides; it has the sender."""
    kind, flags, option = (135, 0, 1) if solicits else (136, 0x2000_0000, 2)
    content = ip_address(about).packed + struct.pack("!BB", option, 1) + mac_bytes(sender)
    return icmp6(to, sender, source, target, kind, flags, content)


class Tap:
    """A machine's end of its link, played by a test."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def send(self, frame: bytes) -> None:
        os.write(self._descriptor, bytes(VNET_HEADER) + frame)

    def until(self, content: bytes, seconds: float) -> list[bytes]:
        """Return all frames up to the first that holds something, none if it does not come."""
        frames: list[bytes] = []
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._descriptor], [], [], left)[0]:
                frames.append(os.read(self._descriptor, 65536)[VNET_HEADER:])
                if content in frames[-1]:
                    return frames
        return []

    def sees(self, content: bytes, seconds: float) -> bytes:
        """Return the first frame that holds something, empty if none comes in time."""
        return next(reversed(self.until(content, seconds)), b"")
