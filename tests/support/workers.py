"""How tests are dealt out to workers that run side by side.

A file is one worker's, so that what its tests share is made once. What looks for containers
anywhere on the host is all one worker's, and so is what makes them or removes images.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

IMAGES = (
    "tests/unit/steps/test_docker.py",
    "tests/unit/steps/test_unikernel.py",
    "tests/machine/builders/",
    "tests/e2e/test_demo.py",
    "tests/e2e/test_mistakes.py",
    "tests/e2e/test_pipelines.py",
)


class Dealing(LoadScopeScheduling):
    """Deals out units of tests, in the order of their first ones."""

    def _split_scope(self, nodeid: str) -> str:
        return "images" if nodeid.startswith(IMAGES) else nodeid.partition("::")[0]
