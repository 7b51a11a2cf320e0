"""Kernels for machine tests, fetched once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def kernel_of():
    def get(suite):
        v = {"bookworm": "6.1", "trixie": "6.12"}[suite]
        return SimpleNamespace(path=next(Path(f"/tmp/k/x{v}/boot").glob("vmlinuz*")))

    return get
