"""The one error that a user is meant to read."""

from __future__ import annotations


class Failure(Exception):  # noqa: N818 - "Failure" is the word the user reads
    """Something the user asked for could not be done.

    Every failure is told in one line: what failed, why, and what to do now. The exception that
    caused it, where there is one, stays reachable as ``__cause__``.

    what: what was attempted, without a full stop ("cannot attach to pid 7").
    why: the fact that prevented it ("it is no hypervisor: no mapping holds a kernel").
    fix: what helps, as an instruction ("name a QEMU process"). May be empty if nothing does.
    """

    def __init__(self, what: str, why: str, fix: str = "") -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        line = f"{self.what}: {self.why}"
        if self.fix:
            line += f"; {self.fix}"
        return " ".join(line.split())


class UsageError(Failure):
    """The command line itself is wrong: exit status 2."""
