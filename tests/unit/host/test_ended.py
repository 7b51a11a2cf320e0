from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mizzen.host import process
from mizzen.host.process import ProcessId, start_time

HEADLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(1000,)).start()
print("ready", flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
"""

PATIENCE = 20


def test_process_lives_as_long_as_any_of_its_threads():
    with subprocess.Popen([sys.executable, "-c", HEADLESS], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        identity = ProcessId(child.pid, start_time(child.pid))
        status, deadline = Path(f"/proc/{child.pid}/stat"), time.monotonic() + PATIENCE
        while " Z " not in status.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert identity.alive
        process.kill(identity, signal.SIGKILL)
        assert asyncio.run(process.ended(identity, PATIENCE))
        assert not identity.alive
        child.returncode = os.EX_OK  # it was reaped
