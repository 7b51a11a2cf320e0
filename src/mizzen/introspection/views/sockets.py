"""The sockets that processes hold open, as ``ss -p`` shows them.

Found through the processes' files, not through the protocols' hash tables: that way is the same in
every kernel, and tells whose a socket is. What no process holds is not seen: connections that are
being closed (TIME-WAIT), and those that nobody has accepted yet.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mizzen.introspection.kernel.btf import Unknown
from mizzen.introspection.kernel.objects import NULL_MAX, Object, Objects
from mizzen.introspection.memory.physical import BadAddress

from .lists import Limit, Listing, collected
from .processes import init_task, tasks

FILES_MAX = 1 << 20
SOCKET = 0o140000
TYPE_MASK = 0o170000
"""S_IFSOCK and S_IFMT."""
SOCKFS = 0x534F_434B
"""SOCKFS_MAGIC; a socket's file on disk, opened with O_PATH, is no socket."""
UNIX, INET, INET6 = 1, 2, 10
FAMILIES = {UNIX: "unix", INET: "inet", INET6: "inet6", 16: "netlink", 17: "packet", 38: "alg",
            40: "vsock", 44: "xdp"}  # fmt: skip
PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 132: "sctp", 136: "udplite", 262: "mptcp"}
TYPES = {1: "stream", 2: "dgram", 3: "raw", 5: "seqpacket"}
STATES = (
    "", "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "time-wait", "closed",
    "close-wait", "last-ack", "listening", "closing", "new-syn-recv",
)  # fmt: skip
"""include/net/tcp_states.h; of all kinds of sockets."""
CONNECTED = 1
LISTENING = 10
PATH_MAX = 108


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket and the first process that holds it.

    kind: protocol, or family and type: ``tcp``, ``udp6``, ``unix stream``. local, remote: address
    and port; of a Unix socket its path, ``@`` for one without a file; "" where there is none.
    state: as ss tells it, in words; of what has no connections, ``closed``.
    """

    kind: str
    state: str
    local: str
    remote: str
    pid: int
    process: str


def sockets(objects: Objects) -> Listing[Socket]:
    """Return the sockets of all processes. Raises Unknown, BadAddress."""
    first = init_task(objects)
    return collected(lambda limit: _sockets(objects, first, limit))


def _sockets(objects: Objects, first: Object, limit: Limit) -> Iterator[Socket]:
    tables: set[int] = set()
    known: set[int] = set()
    for task in tasks(objects, first, limit):
        files = task.follow("files")
        if files is None or files.address in tables:
            continue
        tables.add(files.address)
        for file in _files(objects, files):
            limit.spend()
            if file in known:
                continue
            known.add(file)
            try:
                found = _socket(objects, file, task)
            except BadAddress:
                continue  # closed meanwhile
            if found is not None:
                limit.hold(found.local, found.remote, found.process)
                yield found


def _files(objects: Objects, files: Object) -> list[int]:
    """Return the addresses of a process's open files."""
    table = files.follow("fdt")
    if table is None:
        return []
    count = min(table.number("max_fds"), FILES_MAX)
    data = objects.read(table.number("fd"), 8 * count)
    return [word for (word,) in struct.iter_unpack("<Q", data) if word >= NULL_MAX]


def _socket(objects: Objects, address: int, task: Object) -> Socket | None:
    file = objects.at("file", address)
    inode = file.follow("f_inode")
    if inode is None or inode.number("i_mode") & TYPE_MASK != SOCKET:
        return None
    super_block = inode.follow("i_sb")
    if super_block is None or super_block.number("s_magic") != SOCKFS:
        return None
    socket = objects.at("socket", file.number("private_data"))
    sock = socket.follow("sk")
    if sock is None:
        return None
    family = sock.number("__sk_common.skc_family")
    state = sock.number("__sk_common.skc_state")
    ends = _ENDS.get(family, _no_ends)
    local, remote = ends(objects, sock)
    return Socket(
        _kind(family, sock.number("sk_protocol"), sock.number("sk_type")),
        STATES[state] if state < len(STATES) else str(state),
        local,
        remote,
        task.number("tgid"),
        task.text("comm"),
    )


def _kind(family: int, protocol: int, type_: int) -> str:
    name = PROTOCOLS.get(protocol)
    if family in {INET, INET6} and TYPES.get(type_) != "raw" and name:
        return name + ("6" if family == INET6 else "")
    return f"{FAMILIES.get(family, f'family {family}')} {TYPES.get(type_, type_)}"


def _inet(objects: Objects, sock: Object) -> tuple[str, str]:
    del objects
    common = sock.inner("__sk_common")
    local, remote = (_address(common, name, 4) for name in ("skc_rcv_saddr", "skc_daddr"))
    return _ends(common, local, remote)


def _inet6(objects: Objects, sock: Object) -> tuple[str, str]:
    del objects
    common = sock.inner("__sk_common")
    local, remote = (_address(common, name, 16) for name in ("skc_v6_rcv_saddr", "skc_v6_daddr"))
    return _ends(common, f"[{local}]", f"[{remote}]")


def _address(common: Object, name: str, size: int) -> str:
    data = common.bytes(name)
    if len(data) != size:
        raise Unknown(f"its BTF has {name} as no address")
    return str(ipaddress.ip_address(data))


def _ends(common: Object, local: str, remote: str) -> tuple[str, str]:
    """Put ports to addresses: the local one is kept in the CPU's order, the other as sent."""
    port = int.from_bytes(common.bytes("skc_dport"), "big")
    here = common.number("skc_num")
    return (f"{local}:{here}" if here else "", f"{remote}:{port}" if port else "")


def _unix(objects: Objects, sock: Object) -> tuple[str, str]:
    own = objects.at("unix_sock", sock.address)
    peer = own.follow("peer")
    return (
        _unix_name(objects, own),
        _unix_name(objects, objects.at("unix_sock", peer.address)) if peer else "",
    )


def _unix_name(objects: Objects, sock: Object) -> str:
    """Return a Unix socket's name; one that begins with NUL is no file."""
    address = sock.follow("addr")
    if address is None:
        return ""
    length = min(max(0, address.number("len") - 2), PATH_MAX)
    name = objects.read(address.place("name") + 2, length)
    if name.startswith(b"\0"):
        return "@" + name[1:].decode(errors="replace")
    return name.partition(b"\0")[0].decode(errors="replace")


def _no_ends(objects: Objects, sock: Object) -> tuple[str, str]:
    del objects, sock
    return "", ""


_ENDS: dict[int, Callable[[Objects, Object], tuple[str, str]]] = {
    UNIX: _unix,
    INET: _inet,
    INET6: _inet6,
}
