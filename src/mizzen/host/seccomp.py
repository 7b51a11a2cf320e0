"""Let this process make only the system calls it needs, for ever.

Source: seccomp(2); include/uapi/linux/{seccomp,filter,bpf_common,audit}.h; the numbers are those of
arch/x86/entry/syscalls/syscall_64.tbl.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Collection

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2

_ARCH_X86_64 = 0xC000003E
_X32 = 0x40000000  # calls of that ABI have this bit
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000

# Offsets in struct seccomp_data.
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_INSTRUCTION = struct.Struct("HBBI")

_IOCTL, _SOCKET, _UNSHARE, _PRLIMIT, _SETNS = 16, 41, 272, 302, 308
_SELF = 0  # as the pid that prlimit is about

CALLS = {
    "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14,
    "rt_sigreturn": 15, "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21,
    "select": 23, "sched_yield": 24, "mremap": 25, "madvise": 28, "getpid": 39, "accept": 43,
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "bind": 49,
    "listen": 50, "getsockname": 51, "getpeername": 52, "setsockopt": 54, "getsockopt": 55,
    "exit": 60, "wait4": 61, "uname": 63, "fcntl": 72, "flock": 73, "fsync": 74, "fdatasync": 75,
    "ftruncate": 77, "getcwd": 79, "unlink": 87, "readlink": 89, "fchmod": 91, "gettimeofday": 96,
    "getrlimit": 97, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108,
    "sigaltstack": 131, "statfs": 137, "fstatfs": 138, "gettid": 186, "futex": 202,
    "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232, "epoll_ctl": 233, "openat": 257,
    "newfstatat": 262, "unlinkat": 263, "readlinkat": 267, "faccessat": 269, "pselect6": 270,
    "ppoll": 271, "set_robust_list": 273, "epoll_pwait": 281, "fallocate": 285, "accept4": 288,
    "epoll_create1": 291, "pipe2": 293, "getrandom": 318, "statx": 332, "rseq": 334,
    "faccessat2": 439,
}  # fmt: skip
"""What CPython, SQLite, asyncio and netlink libraries need to go on, by name.

No process, thread or program can be started, none signalled, no mount or trace made.
"""

CONNECT = {"connect": 42}
"""What reaches others' sockets; a root's process that has it can ask the service manager."""

IOCTLS = {
    "TCGETS": 0x5401, "TIOCGWINSZ": 0x5413, "FIONREAD": 0x541B, "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450, "FIOCLEX": 0x5451, "SIOCGIFNAME": 0x8910, "SIOCGIFINDEX": 0x8933,
    "NS_GET_NSTYPE": 0xB703, "TUNSETIFF": 0x400454CA,
}  # fmt: skip
"""Of all the things that ``ioctl`` does, those that are done."""


def _instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """Return struct sock_filter: a test goes on so many instructions further."""
    return _INSTRUCTION.pack(code, then, otherwise, value)


def program(
    families: Collection[int], *, connect: bool = False, namespaces: Collection[int] = ()
) -> bytes:
    """Return the filter: allow CALLS, IOCTLS and sockets of these families; refuse the rest.

    connect: allow CONNECT too. namespaces: kinds (as in ``host.namespaces``) of which one may be
    made, and entered.
    """
    allow, refuse = _instruction(_RETURN, _ALLOW), _instruction(_RETURN, _ERRNO | errno.EPERM)
    lines = [
        _instruction(_LOAD, _ARCH),
        _instruction(_EQUAL, _ARCH_X86_64, then=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, _X32, otherwise=1),
        refuse,
    ]
    for number in (CALLS | CONNECT if connect else CALLS).values():
        lines += [_instruction(_EQUAL, number, otherwise=1), allow]
    chosen = (
        (_IOCTL, 1, IOCTLS.values()),
        (_SOCKET, 0, families),
        (_UNSHARE, 0, namespaces),
        (_SETNS, 1, namespaces),
        (_PRLIMIT, 0, [_SELF]),
    )
    for number, argument, values in chosen:
        # The lower half of the argument: the kernel takes each of these as 32 bits, or no others.
        tests = [_instruction(_LOAD, _ARGUMENTS + 8 * argument)]
        for value in values:
            tests += [_instruction(_EQUAL, value, otherwise=1), allow]
        tests.append(refuse)
        lines += [_instruction(_EQUAL, number, otherwise=len(tests)), *tests]
    return b"".join([*lines, refuse])


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def restrict(
    families: Collection[int], *, connect: bool = False, namespaces: Collection[int] = ()
) -> None:
    """Refuse (EPERM) everything else from now on; see ``program``.

    Threads that run already are not restricted: call it before there are any.
    Raises OSError if the kernel refuses.
    """
    code = program(families, connect=connect, namespaces=namespaces)
    filter_ = _Program(len(code) // _INSTRUCTION.size, code)
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc.prctl(
        _PR_SET_SECCOMP, _FILTER, ctypes.byref(filter_), 0, 0
    ):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
