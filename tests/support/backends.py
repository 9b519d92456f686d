"""Which backend serves the tests that run on both: the compiled core, or torch's operations."""

from __future__ import annotations

import pytest

from adalora_core.ops import _backend


@pytest.fixture(params=["native", "portable"])
def op_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serve every call of a test by one backend."""
    name: str = request.param
    if name == "portable":
        monkeypatch.setattr(_backend, "HAS_CORE", False)
    return name
