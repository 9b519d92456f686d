"""Each of PEFT's faults is shown with PEFT alone, and gone with everything of ours."""

from __future__ import annotations

import pytest
from adalora_runs import OURS
from backends import op_backend

__all__ = ["op_backend"]


@pytest.fixture(autouse=True)
def _on_every_backend(op_backend: str) -> None:
    """Run each test once per backend."""


@pytest.fixture(params=OURS)
def library(request: pytest.FixtureRequest) -> str:
    """A model of ours, and a model of PEFT that is attached."""
    return request.param
