"""Fixtures for hostile input."""

from __future__ import annotations

import pytest
from confined import Confined


@pytest.fixture
def confined(tmp_path):
    """A tree to check, with a secret outside of it."""
    return Confined(tmp_path)
