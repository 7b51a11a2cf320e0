"""The command ``mizzen``: registers every command and turns failures into exit status."""

from __future__ import annotations

import signal
import sqlite3
import sys
from types import FrameType

import cyclopts

from mizzen import __version__
from mizzen.model.errors import Failure, UsageError

from . import (
    attach,
    bench,
    coredump,
    demo,
    doctor,
    incidents,
    inspect,
    machines,
    output,
    tools,
    watch,
)

app = cyclopts.App(
    name="mizzen",
    help="Run services in very small virtual machines, and step into one when it fails.",
    version=__version__,
    version_flags=["--version"],
)
app.command(demo.demo)
app.command(machines.app)
app.command(attach.attach)
app.command(tools.app)
app.command(inspect.inspect)
app.command(coredump.coredump)
app.command(watch.watch)
app.command(incidents.app)
app.command(doctor.doctor)
app.command(bench.app)


def main() -> None:
    """Run the command line and exit with its status: 0 done, 1 failed, 2 wrong usage."""
    output.have_standard_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = app(print_error=False, exit_on_error=False)
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        output.fail(" ".join(str(error).split()).rstrip(".") + "; see: mizzen --help")
        status = 2
    except UsageError as error:
        output.fail(str(error))
        status = 2
    except Failure as error:
        output.fail(str(error))
        status = 1
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        output.abandon(sys.stderr)  # whoever read the output has gone
        status = 141
    except (OSError, sqlite3.Error) as error:
        output.fail(f"cannot go on: {error}; check the disk's space and permissions")
        status = 1
    output.abandon(sys.stdout)
    sys.exit(status if isinstance(status, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's shape
    """Do as Ctrl-C does: asyncio makes that a cancellation, which cleans up."""
    interrupt = signal.getsignal(signal.SIGINT)
    if callable(interrupt):
        interrupt(signal.SIGINT, frame)
    else:
        raise KeyboardInterrupt
