"""Mounts a folder through the FUSE server, in a mount namespace that ends with this process.

Usage: mounted.py FOLDER PLACE; says "ready" once it is mounted, and ends when stdin does.
"""

import ctypes
import os
import select
import sys

from mizzen.host import cpio
from mizzen.sessions.fuse.protocol import REQUEST_MAX
from mizzen.sessions.fuse.server import Server

CLONE_NEWNS = 0x20000
MS_RDONLY, MS_NODEV, MS_REC, MS_PRIVATE = 1, 4, 1 << 14, 1 << 18
OVERLAY = [
    cpio.directory("guest"),
    cpio.file("log", b"what it wrote last\n"),
    cpio.link("etc/passwd", "/guest/etc/passwd"),
]

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def main(folder: str, place: str) -> None:
    check(libc.unshare(CLONE_NEWNS))
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    options = f"fd={fuse},rootmode=40755,user_id=0,group_id=0,default_permissions,allow_other"
    check(libc.mount(b"t", place.encode(), b"fuse", MS_RDONLY | MS_NODEV, options.encode()))
    server = Server(os.open(folder, os.O_PATH | os.O_DIRECTORY), OVERLAY)
    print("ready", flush=True)
    poll = select.poll()
    poll.register(fuse, select.POLLIN)
    poll.register(0, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in poll.poll()]
        if 0 in ready:
            return
        try:
            request = os.read(fuse, REQUEST_MAX)
        except (BlockingIOError, FileNotFoundError):  # taken back before it was read
            continue
        if (reply := server.handle(request)) is not None:
            try:
                os.write(fuse, reply)
            except FileNotFoundError:  # who asked has gone
                continue


main(*sys.argv[1:])
