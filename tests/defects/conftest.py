"""Each of PEFT's faults is shown with PEFT alone, and gone with everything of ours."""

from __future__ import annotations

import pytest
from adalora_runs import OURS


@pytest.fixture(params=OURS)
def library(request: pytest.FixtureRequest) -> str:
    """A model of ours, and a model of PEFT that is attached."""
    return request.param
