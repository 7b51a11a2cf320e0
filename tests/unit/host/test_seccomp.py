"""What a process that is restricted may still do, by trying, before and after."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TRIES = """
import ctypes, errno, fcntl, json, os, resource, signal, socket, sqlite3, sys, termios, threading
from mizzen.host import seccomp

libc = ctypes.CDLL(None, use_errno=True)
folder = sys.argv[1]
left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
listener = socket.socket(socket.AF_UNIX)
listener.bind(folder + "/listener")
listener.listen(8)
master, slave = os.openpty()


def call(number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "")


def fork():
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def thread():
    one = threading.Thread(target=int)
    one.start()
    one.join()


def connect():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(folder + "/listener")


def database():
    connection = sqlite3.connect(folder + "/database")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE IF NOT EXISTS one (two)")
    connection.execute("INSERT INTO one VALUES (1)")
    connection.commit()
    connection.close()


tries = {
    "fork": fork,
    "thread": thread,
    "execve": lambda: call(59, b"/nothing", None, None),
    "execveat": lambda: call(322, -1, b"/nothing", None, None, 0),
    "ptrace": lambda: call(101, 0x4206, 1 << 22, 0, 0),
    "process_vm_readv": lambda: call(310, os.getpid(), None, 0, None, 0, 0),
    "kill": lambda: os.kill(os.getpid(), 0),
    "unshare": lambda: call(272, 0),
    "setns": lambda: call(308, os.open("/proc/self/ns/net", 0), 0),
    "new network namespace": lambda: call(272, 0x40000000),
    "network namespace": lambda: call(308, os.open("/proc/self/ns/net", 0), 0x40000000),
    "user namespace": lambda: call(272, 0x10000000),
    "two namespaces": lambda: call(272, 0x44000000),
    "mount": lambda: call(165, b"a", b"/nothing", b"a", 0, None),
    "bpf": lambda: call(321, 0, None, 0),
    "keyctl": lambda: call(250, 0, 0, 0),
    "own limits": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    "others' limits": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE),
    "io_uring": lambda: call(425, 0, None),
    "x32 call": lambda: call(0x40000000 + 39),
    "connect": connect,
    "tty input": lambda: fcntl.ioctl(slave, termios.TIOCSTI, b"x"),
    "tty attributes": lambda: termios.tcgetattr(slave),
    "IPv4": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "Unix": lambda: socket.socket(socket.AF_UNIX).close(),
    "file": lambda: open(folder + "/file", "w").close(),
    "database": database,
}


def outcomes():
    found = {}
    for name, act in tries.items():
        try:
            act()
            found[name] = "done"
        except (OSError, RuntimeError) as error:
            refused = isinstance(error, RuntimeError) or error.errno == errno.EPERM
            found[name] = "refused" if refused else "tried"
    return found


before = outcomes()
families = {socket.AF_UNIX, socket.AF_NETLINK}
seccomp.restrict(families | ({socket.AF_INET} if "more" in sys.argv else set()),
                 connect="more" in sys.argv,
                 namespaces={0x40000000} if "namespaces" in sys.argv else ())
print(json.dumps([before, outcomes()]))
sys.stdout.flush()
os._exit(0)
"""

STAYS = {"own limits", "netlink", "Unix", "file", "database", "tty attributes"}


def outcomes(folder: Path, *arguments: str) -> tuple[dict[str, str], dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", TRIES, folder, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    before, after = json.loads(done.stdout)
    return before, after


def test_what_a_daemon_does_goes_on_and_all_else_is_refused(tmp_path: Path) -> None:
    before, after = outcomes(tmp_path)
    assert {name for name, told in after.items() if told != "refused"} == STAYS
    assert {name for name in STAYS if after[name] == "done"} == STAYS
    # A refusal shows nothing where it was refused before as well, as some calls are in containers.
    assert len([name for name, told in before.items() if told == "refused"]) <= 5
    assert {before[name] for name in ("fork", "thread", "connect", "IPv4", "kill")} == {"done"}
    assert before["execve"] == "tried"


def test_a_relay_may_connect_and_have_sockets_of_the_network(tmp_path: Path) -> None:
    _, after = outcomes(tmp_path, "more")
    assert {name for name, told in after.items() if told != "refused"} == STAYS | {
        "IPv4",
        "connect",
    }


def test_a_maker_may_have_network_namespaces_and_no_others(tmp_path: Path) -> None:
    _, after = outcomes(tmp_path, "namespaces")
    assert {name for name, told in after.items() if told != "refused"} == STAYS | {
        "new network namespace",
        "network namespace",
    }
