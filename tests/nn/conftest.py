"""The tests of the layers run on every backend."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _on_every_backend(op_backend: str) -> None:
    """Run each test once per backend."""
