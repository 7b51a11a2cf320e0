"""Hatchling's hook: compile the guest programs, and put them into the wheel.

They are payload that runs in guests, not extensions of Python, so one py3-none-any wheel serves
every Python.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAMS = "src/mizzen/guest"
"""Where guest/Makefile puts what it builds; ignored by git, so it is named to hatchling here."""


class GuestPrograms(BuildHookInterface[BuilderConfig]):
    """Runs ``make -C guest`` before a wheel, editable or not, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Build the guest programs and name them as part of the wheel."""
        if self.target_name != "wheel":
            return
        command = ["make", "--silent", "-C", str(Path(self.root, "guest"))]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            message = (
                f"cannot build Mizzen's guest programs: {error}; "
                "run: apt-get install gcc libc6-dev make musl-tools"
            )
            raise SystemExit(message) from error
        build_data["artifacts"].append(f"/{PROGRAMS}/")
