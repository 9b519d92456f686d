"""Fixtures for hostile input."""

from __future__ import annotations

import pytest
from command_fixtures import check
from confined import Confined

__all__ = ["check", "confined"]


@pytest.fixture
def confined(tmp_path):
    """A tree to check, with a secret outside of it."""
    return Confined(tmp_path)
