"""The command ``mizzen``: registers every command and turns failures into exit status."""

from __future__ import annotations

import signal
import sqlite3
import sys
from types import FrameType

import cyclopts

from mizzen import __version__
from mizzen.model.errors import Failure, UsageError

from . import output

app = cyclopts.App(
    name="mizzen",
    help="Run services in very small virtual machines, and step into one when it fails.",
    version=__version__,
    version_flags=["--version"],
)
# By name, so that a command waits for the import of its own module alone.
app.command("mizzen.cli.demo:demo")
app.command("mizzen.cli.up:up")
app.command("mizzen.cli.down:down")
app.command("mizzen.cli.jobs:app", name="jobs")
app.command("mizzen.cli.machines:app", name="machines")
app.command("mizzen.cli.publish:app", name="publish")
app.command("mizzen.cli.collect:collect")
app.command("mizzen.cli.attach:attach")
app.command("mizzen.cli.tools:app", name="tools")
app.command("mizzen.cli.inspect:inspect")
app.command("mizzen.cli.coredump:coredump")
app.command("mizzen.cli.watch:watch")
app.command("mizzen.cli.incidents:app", name="incidents")
app.command("mizzen.cli.net:app", name="net")
app.command("mizzen.cli.ip:app", name="ip")
app.command("mizzen.cli.doctor:doctor")
app.command("mizzen.cli.bench:app", name="bench")


def main() -> None:
    """Run the command line and exit with its status: 0 done, 1 failed, 2 wrong usage."""
    output.have_standard_streams()
    signal.signal(signal.SIGTERM, _terminate)
    if not sys.argv[1:] or sys.argv[1].startswith("-"):  # help tells of every command
        for name in app:
            app[name]
    try:
        status = app(print_error=False, exit_on_error=False)
        sys.stdout.flush()
    except cyclopts.CycloptsError as error:
        output.fail(" ".join(str(error).split()).rstrip("., ") + "; see: mizzen --help")
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
