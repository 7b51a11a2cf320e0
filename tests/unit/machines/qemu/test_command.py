from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from mizzen.machines.qemu.board import Board, board
from mizzen.machines.qemu.command import Descriptors, arguments, kernel_parameters
from mizzen.machines.qemu.driver import explain, forwards
from mizzen.model.image import ProcessConfig
from mizzen.model.machine import Accel, MachineNetwork, MachineSpec, Port
from mizzen.model.network import Transport

SPEC = MachineSpec(
    name="web",
    reference="./web",
    kernel=Path("/k/vmlinuz"),
    initramfs=Path("/c/initramfs"),
    root=Path("/c/root"),
    process=ProcessConfig(("/app",)),
    publish=(Port(8080, 80), Port(0, 443), Port(5300, 53, Transport.UDP)),
)

INHERITED = Descriptors(
    kernel=10,
    initramfs=11,
    memory=12,
    root=13,
    log=14,
    console=15,
    qmp=16,
    console_socket=17,
    control=18,
)

WHOLE = """\
qemu-system-x86_64
-name guest=web
-nodefaults
-no-user-config
-no-reboot
-display none
-machine microvm,acpi=on,rtc=on,pit=off,pic=off,memory-backend=ram
-accel tcg,tb-size=32
-cpu qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,+arat
-smp 1
-m 256M
-object memory-backend-file,id=ram,size=256M,mem-path=/proc/self/fd/12,share=on
-kernel /proc/self/fd/10
-initrd /proc/self/fd/11
-append console=ttyS0 quiet loglevel=5 panic=-1 printk.devkmsg=on cryptomgr.notests \
tsc_early_khz=2600000 tsc=reliable clearcpuid=141
-add-fd fd=15,set=2
-chardev socket,id=qmp,fd=16,server=on,wait=off
-mon chardev=qmp,mode=control
-chardev socket,id=console,fd=17,server=on,wait=off,logfile=/dev/fdset/2,logappend=on
-serial chardev:console
-add-fd fd=14,set=1
-device virtio-serial-device
-chardev file,id=log,path=/dev/null,logfile=/dev/fdset/1,logappend=on
-device virtserialport,chardev=log,name=org.mizzen.log
-chardev socket,id=control,fd=18,server=on,wait=off
-device virtserialport,chardev=control,name=org.mizzen.control
-add-fd fd=13,set=3
-blockdev driver=raw,node-name=root,read-only=on,file.driver=file,\
file.filename=/dev/fdset/3,file.locking=off
-device virtio-blk-device,drive=root
-netdev user,id=net,restrict=on,ipv6=off,net=10.0.2.0/24,dhcpstart=10.0.2.15,\
hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=tcp:127.0.0.1:0-:443,\
hostfwd=udp:127.0.0.1:5300-:53
-device virtio-net-device,netdev=net
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"""


def drawn(command: list[str]) -> str:
    text = command[0]
    for word in command[1:]:
        text += ("\n" if word.startswith("-") else " ") + word
    return text


def test_whole_command_line():
    assert drawn(arguments(SPEC, INHERITED, 2_600_000)) == WHOLE


def test_machine_without_root_has_no_disk():
    spec = replace(SPEC, root=None)
    text = drawn(arguments(spec, replace(INHERITED, root=None), 2_600_000))
    assert "virtio-blk" not in text
    assert "blockdev" not in text


def test_machine_with_a_link_has_its_tap_and_its_mac():
    network = MachineNetwork(("10.70.0.0/24",), mac="02:00:0a:46:00:02")
    spec = replace(SPEC, publish=(), network=network)
    text = drawn(arguments(spec, replace(INHERITED, interface=19), 2_600_000))
    assert (
        "\n-netdev tap,id=net,fd=19\n-device virtio-net-device,netdev=net,mac=02:00:0a:46:00:02\n"
    ) in text
    assert "user,id=net" not in text


def test_machine_that_may_begin_conversations_is_not_shut_off():
    assert ",restrict=off," in drawn(arguments(replace(SPEC, outward=True), INHERITED, 1))


def test_kvm_takes_the_hosts_cpu_and_needs_no_help_with_clocks():
    text = drawn(arguments(replace(SPEC, accel=Accel.KVM), INHERITED, 0))
    assert "\n-accel kvm\n-cpu host\n" in text
    assert "tsc" not in text
    assert "clearcpuid" not in text


UNIKERNEL = replace(
    SPEC,
    initramfs=None,
    root=None,
    process=None,
    publish=(),
    command_line="--listen=10.70.0.2:80 --sick",
)

BARE = replace(INHERITED, initramfs=None, root=None, log=None, control=None)

WHOLE_UNIKERNEL = """\
qemu-system-x86_64
-name guest=web
-nodefaults
-no-user-config
-no-reboot
-display none
-machine microvm,acpi=off,memory-backend=ram
-accel tcg,tb-size=32
-cpu qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,+arat
-smp 1
-m 256M
-object memory-backend-file,id=ram,size=256M,mem-path=/proc/self/fd/12,share=on
-kernel /proc/self/fd/10
-append --listen=10.70.0.2:80 --sick
-add-fd fd=15,set=2
-chardev socket,id=qmp,fd=16,server=on,wait=off
-mon chardev=qmp,mode=control
-chardev socket,id=console,fd=17,server=on,wait=off,logfile=/dev/fdset/2,logappend=on
-serial chardev:console
-S
-device isa-debug-exit,iobase=0x501,iosize=2
-netdev user,id=net,restrict=on,ipv6=off,net=10.0.2.0/24,dhcpstart=10.0.2.15
-device virtio-net-device,netdev=net
-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"""


def test_whole_command_line_of_a_unikernel():
    command = arguments(UNIKERNEL, BARE, 0)
    assert command[command.index("-append") + 1] == UNIKERNEL.command_line
    assert " ".join(command) == " ".join(WHOLE_UNIKERNEL.split())
    assert sorted(BARE.all) == [10, 12, 15, 16, 17]


def test_unikernel_that_looks_for_pci_finds_it():
    network = MachineNetwork(("10.70.0.0/24",), mac="02:00:0a:46:00:02")
    spec = replace(UNIKERNEL, network=network)
    text = drawn(arguments(spec, replace(BARE, interface=19), 0, Board.PC))
    assert "\n-machine pc,acpi=off,memory-backend=ram\n" in text
    device = "virtio-net-pci,romfile=,netdev=net,mac=02:00:0a:46:00:02"
    assert f"\n-netdev tap,id=net,fd=19\n-device {device}\n" in text


def header(flags: int = 0x10003, checksum: int = -(0x1BADB002 + 0x10003) % (1 << 32)) -> bytes:
    return struct.pack("<3I", 0x1BADB002, flags, checksum)


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (b"", Board.MICROVM),
        (header(), Board.PC),
        (bytes(8180) + header(), Board.PC),
        (bytes(8184) + header(), Board.MICROVM),  # behind where it may lie
        (bytes(2) + header(), Board.MICROVM),  # not aligned
        (header(flags=7), Board.MICROVM),  # the sum is wrong
        (header()[:11], Board.MICROVM),
    ],
)
def test_multiboot_asks_for_a_pc(begin, expected):
    assert board(begin) is expected


def test_users_kernel_parameters_come_last():
    spec = replace(SPEC, command_line="mitigations=off")
    assert kernel_parameters(spec, 1).endswith(" mitigations=off")


def test_every_descriptor_is_handed_over_once():
    assert sorted(INHERITED.all) == list(range(10, 19))
    assert sorted(replace(INHERITED, interface=19).all) == list(range(10, 20))
    assert len(replace(INHERITED, root=None).all) == 8


def test_published_ports_are_read_back():
    usernet = (
        "Hub -1 (net):\n"
        "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n"
        "  TCP[HOST_FORWARD]  18       127.0.0.1 39521       10.0.2.15    80     0     0\n"
        "  TCP[ESTABLISHED]   20       127.0.0.1 39521       10.0.2.15    80     0     0\n"
        "  TCP[HOST_FORWARD]  17       127.0.0.1  8443       10.0.2.15   443     0     0\n"
        "  UDP[HOST_FORWARD]  16       127.0.0.1  5300       10.0.2.15    53     0     0\n"
    )
    assert forwards(usernet) == (
        Port(39521, 80),
        Port(8443, 443),
        Port(5300, 53, Transport.UDP),
    )


def test_last_words_are_explained():
    taken = "-netdev user,id=net: Could not set up host forwarding rule 'tcp:127.0.0.1:80-:80'"
    assert explain(taken, Accel.TCG)[0] == "port 80 of this host is taken"
    assert explain(taken.replace("tcp", "udp"), Accel.TCG)[0] == "port 80 of this host is taken"
    assert explain("boom", Accel.KVM) == ("QEMU: boom", "use --accel tcg")
    assert explain("", Accel.TCG) == ("QEMU ended without a word", "see mizzen doctor")
