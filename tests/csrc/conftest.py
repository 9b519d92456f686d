"""The C++ tests over the interpreter of PTX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cuda_stand_in import interpreted_build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def cuda_ptx(request: pytest.FixtureRequest) -> Path:
    """The program of ptx/main.cpp: built before, or here where there is an nvcc."""
    return interpreted_build(request) / "cuda_ptx"
