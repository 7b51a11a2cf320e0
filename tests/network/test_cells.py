"""Cells, by the real daemon: what a machine in one finds there, and what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, wait_for_any
from frames import Tap, arp, checksum, icmp6, ip, mac_bytes, neighbour, udp
from netns import GLANCE, PATIENCE, Namespace
from netplane import BOTH, GATEWAY, OUTSIDE, cells_allowed

import mizzen
from mizzen.model.errors import Failure
from mizzen.model.network import Cell
from mizzen.network import maker as making
from mizzen.network import netlink
from mizzen.network.cells import READY, Cells
from mizzen.network.links import HOST_MAC
from mizzen.network.maker import Made, Maker
from mizzen.network.netlink import attribute

pytestmark = pytest.mark.skipif(
    not cells_allowed(), reason="no user namespaces can be made here, as in a chroot"
)

CELL = Cell(("10.77.0.2", "fd77::2"), GATEWAY, "02:4d:00:00:00:01")
MARK = b"mizzen-was-here"

SIOCGSKNS, TUNGETIFF = 0x894C, 0x800454D2  # include/uapi/linux/{sockios,if_tun}.h
RTM_NEWNSID, RTM_DELNSID, RTNLGRP_NSID = 88, 89, 28  # include/uapi/linux/rtnetlink.h
NETNSA_NSID, NETNSA_FD = 1, 3  # include/uapi/linux/net_namespace.h
NSID = 77


@pytest.fixture
def host() -> Iterator[Namespace]:
    with contextlib.closing(Namespace()) as namespace:
        yield namespace


@pytest.fixture
def daemon(host: Namespace, tmp_path: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(tmp_path)
    with host.entered():
        process.start()
    yield process
    process.kill()


@pytest.fixture
def taps() -> Iterator[list[int]]:
    held: list[int] = []
    yield held
    for tap in held:
        os.close(tap)


def opened(daemon: DaemonProcess, taps: list[int], count: int = 1) -> list[Tap]:
    """Open cells, one after the other, for as long as the test lasts."""

    async def open_all() -> None:
        for _ in range(count):
            tap = await daemon.network.open_cell(CELL)
            taps.append(tap)

    asyncio.run(open_all())
    return [Tap(tap) for tap in taps[-count:]]


def finds_gateway(tap: Tap, v: int) -> bool:
    """Tell whether the gateway says where it is, and answers an echo request."""
    own = CELL.addresses[v]
    if v == 0:
        asks = arp(CELL.mac, own, GATEWAY[0])
        echo = struct.pack("!BBHI", 8, 0, 0, 1) + MARK
        echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
        request = ip(HOST_MAC, CELL.mac, own, GATEWAY[0], 1, echo)
    else:
        to = "33:33:ff:00:00:01"
        asks = neighbour(CELL.mac, own, "ff02::1:ff00:1", GATEWAY[1], solicits=True, to=to)
        request = icmp6(HOST_MAC, CELL.mac, own, GATEWAY[1], 128, 1, MARK)
    told = b""
    for _ in range(int(PATIENCE / GLANCE)):  # Linux hears of a new IPv6 address's group a bit later
        tap.send(asks)
        if told := tap.sees(ip_address(GATEWAY[v]).packed, GLANCE):
            break
    tap.send(request)
    answer = tap.sees(MARK, PATIENCE)
    ends = mac_bytes(CELL.mac) + mac_bytes(HOST_MAC)
    return told.startswith(ends) and mac_bytes(HOST_MAC) in told[12:] and answer.startswith(ends)


@BOTH
def test_cells_with_the_same_address_each_have_the_gateway_and_not_each_other(
    daemon: DaemonProcess, taps: list[int], v: int
) -> None:
    one, other = opened(daemon, taps, 2)
    for tap in (one, other):
        assert finds_gateway(tap, v)
    one.send(udp(HOST_MAC, CELL.mac, CELL.addresses[v], CELL.addresses[v], 90, MARK))
    one.send(udp("ff:ff:ff:ff:ff:ff", CELL.mac, CELL.addresses[v], CELL.addresses[v], 90, MARK))
    assert not other.sees(MARK, GLANCE)


@BOTH
def test_nothing_leaves_a_cell_that_leaves_the_link_it_is_a_copy_of(
    daemon: DaemonProcess, host: Namespace, taps: list[int], v: int
) -> None:
    with contextlib.closing(Namespace()) as outside:
        host.connect(outside, "up0", "eth0")
        host.ip(
            "link set up0 up",
            "addr add 192.0.2.1/24 dev up0",
            "addr add 2001:db8::1/64 dev up0 nodad",
        )
        outside.ip(
            "link set eth0 up",
            f"addr add {OUTSIDE[0]}/24 dev eth0",
            f"addr add {OUTSIDE[1]}/64 dev eth0 nodad",
        )
        for prefix in ("10.77.0.0/24", "fd77::/64"):
            asyncio.run(daemon.network.request_address("machine:web", prefix))
        link, tap = asyncio.run(daemon.network.open_link("web"))
        assert tap is not None
        taps.append(tap)
        copy = asyncio.run(daemon.network.open_cell(Cell(link.addresses, link.gateways, link.mac)))
        taps.append(copy)
        with contextlib.closing(outside.socket(OUTSIDE[v], socket.SOCK_DGRAM)) as listener:
            listener.bind((OUTSIDE[v], 90))
            frame = udp(HOST_MAC, link.mac, link.addresses[v], OUTSIDE[v], 90, MARK)
            Tap(copy).send(frame)
            assert not select.select([listener], [], [], GLANCE)[0]
            Tap(tap).send(frame)
            listener.settimeout(PATIENCE)
            assert listener.recv(100) == MARK


def test_a_cells_tap_is_as_a_links(daemon: DaemonProcess, host: Namespace, taps: list[int]) -> None:
    opened(daemon, taps)
    asyncio.run(daemon.network.request_address("machine:web", "10.77.0.0/24"))
    link, tap = asyncio.run(daemon.network.open_link("web"))
    assert tap is not None
    taps.append(tap)
    flags = []
    for one in taps:
        told = struct.unpack("16sH22x", fcntl.ioctl(one, TUNGETIFF, bytes(40)))
        flags.append(told[1])
    assert flags[0] == flags[1]
    assert {one for one in host.show("ip", "-o", "link").split() if "mizzen-" in one} == {
        f"{link.interface}:"
    }


def test_a_cell_with_one_address_says_nothing_by_itself(
    daemon: DaemonProcess, taps: list[int]
) -> None:
    cell = Cell(CELL.addresses[:1], CELL.gateways[:1], CELL.mac)
    taps.append(asyncio.run(daemon.network.open_cell(cell)))
    tap = Tap(taps[0])
    assert finds_gateway(tap, 0)
    assert not tap.sees(b"", GLANCE)


def gone(host: Namespace, tap: int) -> socket.socket:
    """Return a socket that can be read when the namespace of a tap has gone."""
    with host.entered():
        told = netlink.connect(socket.NETLINK_ROUTE)
        netlink.join(told, RTNLGRP_NSID)
        namespace = fcntl.ioctl(tap, SIOCGSKNS)
        try:
            body = bytes(4) + attribute(NETNSA_NSID, struct.pack("=i", NSID))
            body += attribute(NETNSA_FD, struct.pack("=I", namespace))

            async def name() -> None:
                with netlink.connect(socket.NETLINK_ROUTE) as asking:
                    await netlink.ask(asking, RTM_NEWNSID, body)

            asyncio.run(name())
        finally:
            os.close(namespace)
    assert [one.kind for one in netlink.messages(told.recv(65536))] == [RTM_NEWNSID]
    return told


def test_a_cell_is_there_until_its_last_descriptor_is_closed(
    daemon: DaemonProcess, host: Namespace
) -> None:
    tap = asyncio.run(daemon.network.open_cell(CELL))
    with gone(host, tap) as told:
        copy = os.dup(tap)
        os.close(tap)
        assert not select.select([told], [], [], GLANCE)[0]
        assert finds_gateway(Tap(copy), 0)
        os.close(copy)
        wait_for_any(told.fileno())
        (message,) = netlink.messages(told.recv(65536))
        assert message.kind == RTM_DELNSID
        assert netlink.find(message.body, NETNSA_NSID, 4) == struct.pack("=i", NSID)


def maker(daemon: DaemonProcess) -> int:
    """Return the pid of a daemon's maker."""
    (pid,) = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
    return int(pid)


def test_after_a_sigkill_cells_go_on_and_the_maker_does_not(
    daemon: DaemonProcess, host: Namespace, taps: list[int]
) -> None:
    (held,) = opened(daemon, taps)
    pidfd = os.pidfd_open(maker(daemon))
    daemon.kill()
    wait_for_any(pidfd)
    os.close(pidfd)
    assert finds_gateway(held, 0)
    with host.entered():
        daemon.start()
    (another,) = opened(daemon, taps)
    assert finds_gateway(another, 1)
    assert finds_gateway(held, 1)


def test_the_maker_has_nothing_outside_its_user_namespace(daemon: DaemonProcess) -> None:
    pid = maker(daemon)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 1 << 12 | 1 << 21
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    own = Path("/proc/self/ns/user").stat().st_ino
    assert Path(f"/proc/{pid}/ns/user").stat().st_ino != own
    held = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it makes a cell just now
            held.add(str(path.readlink()).partition(":")[0] if int(path.name) > 2 else "")
    assert held <= {"", "net", "socket", "/dev/net/tun"}


def test_who_waits_for_a_slow_maker_keeps_nobody_else_waiting(
    daemon: DaemonProcess, taps: list[int]
) -> None:
    opened(daemon, taps)
    pid = maker(daemon)

    async def act() -> None:
        os.kill(pid, signal.SIGSTOP)
        try:
            # More than can be ready, with one that may be on its way: the others wait.
            cells = [asyncio.create_task(daemon.network.open_cell(CELL)) for _ in range(READY + 2)]
            await asyncio.sleep(0)  # all have been asked for
            assert (await daemon.network.request_address("a", "10.70.0.0/24")).address
            assert not all(cell.done() for cell in cells)
        finally:
            os.kill(pid, signal.SIGCONT)
        taps.extend(await asyncio.gather(*cells))

    asyncio.run(act())
    assert all(finds_gateway(Tap(tap), 0) for tap in taps)


def test_without_its_maker_a_daemon_says_so_and_does_all_else(
    daemon: DaemonProcess, taps: list[int]
) -> None:
    opened(daemon, taps)
    pidfd = os.pidfd_open(maker(daemon))
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    wait_for_any(pidfd)
    os.close(pidfd)
    with pytest.raises(Failure, match="the process that makes them has ended"):
        opened(daemon, taps, READY + 1)
    assert asyncio.run(daemon.network.status()).mode == "kernel"
    assert daemon.stop() == 0


def test_what_was_handed_out_is_made_anew_and_no_more() -> None:
    class Counting(Maker):
        begun = 0
        made = asyncio.Semaphore(0)

        async def make(self) -> Made:
            self.begun += 1
            found = await super().make()
            self.made.release()
            return found

    async def act() -> None:
        with contextlib.closing(Counting()) as maker, contextlib.closing(Cells(maker)) as cells:
            for opened in range(3 * READY):
                for _ in range(1 if opened else READY):
                    await maker.made.acquire()
                assert maker.begun == READY + opened
                os.close(await cells.open(CELL))

    asyncio.run(act())


OPEN = """
import asyncio, contextlib, sys
from pathlib import Path
from mizzen.model.errors import Failure
from mizzen.model.network import Cell
from mizzen.network.cells import Cells
from mizzen.network.maker import Maker

async def act():
    Path("/proc/sys/user", sys.argv[1]).write_text("0")
    with contextlib.closing(Maker()) as maker, contextlib.closing(Cells(maker)) as cells:
        try:
            await cells.open(Cell(("10.77.0.2",), ("10.77.0.1",), "02:4d:00:00:00:01"))
        except Failure as failure:
            print(failure)

asyncio.run(act())
"""


@pytest.mark.parametrize("name", ["max_user_namespaces", "max_net_namespaces"])
def test_where_namespaces_are_not_allowed_the_setting_is_named(name: str) -> None:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--", sys.executable, "-c", OPEN, name],
        capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(mizzen.__file__).parents[1])},
    )  # fmt: skip
    assert f"cannot open a cell: user.{name} is 0" in done.stdout
    assert f"run: sudo sysctl user.{name}=10000" in done.stdout


def test_there_are_so_many_at_once_and_no_more(
    monkeypatch: pytest.MonkeyPatch, taps: list[int]
) -> None:
    most = READY + 3
    monkeypatch.setattr(making, "CELLS_MAX", most)

    async def act() -> None:
        with contextlib.closing(Maker()) as maker, contextlib.closing(Cells(maker)) as cells:
            for _ in range(most):
                tap = await cells.open(CELL)
                taps.append(tap)
            with pytest.raises(Failure, match="there are 1024, or "):
                await cells.open(CELL)

    asyncio.run(act())
    assert all(finds_gateway(Tap(tap), 0) for tap in taps)
