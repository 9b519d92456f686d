"""Four processes on two cores take turns: what needs as many is in the slow tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("distributed_runs")

MANY = 4
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests here that a parameter gives so many processes."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec and HERE in item.path.parents and _numbers(callspec.params.values()) & {MANY}:
            item.add_marker(pytest.mark.slow)


def _numbers(values: Any) -> set[Any]:
    """Return all whole numbers in nested tuples and lists."""
    found = set()
    for value in values:
        if isinstance(value, (tuple, list)):
            found |= _numbers(value)
        elif type(value) is int:
            found.add(value)
    return found
