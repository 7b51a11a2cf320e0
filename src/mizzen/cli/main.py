"""The command ``mizzen``: registers every command and turns failures into exit status."""

from __future__ import annotations

import signal
import sys

import cyclopts

from mizzen import __version__
from mizzen.model.errors import Failure, UsageError

from . import attach, doctor, incidents, machines, output, watch

app = cyclopts.App(
    name="mizzen",
    help="Run services in very small virtual machines, and step into one when it fails.",
    version=__version__,
    version_flags=["--version"],
)
app.command(attach.attach)
app.command(doctor.doctor)
app.command(watch.watch)
app.command(incidents.app)
app.command(machines.app)


def main() -> None:
    """Run the command line and exit with its status: 0 done, 1 failed, 2 wrong usage."""
    signal.signal(signal.SIGTERM, _interrupt)
    output.never_choke()
    try:
        status = app(print_error=False, exit_on_error=False)
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
        sys.stderr.close()  # whoever read the output has gone; Python must not complain of it
        status = 141
    sys.exit(status if isinstance(status, int) else 0)


def _interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - the signal module's shape
    raise KeyboardInterrupt
