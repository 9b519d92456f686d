"""Run the test files that take longest first, so that no worker idles at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
LONGEST = (
    "packaging/test_install.py",
    "peft/test_peft_releases.py",
    "distributed/test_launchers.py",
    "ops/test_svd_linear.py",
    "core/test_bindings.py",
    "runs/test_operation_counts.py",
    "differential/test_differential.py",
    "nn/test_adapter_layer_compiled.py",
    "peft/test_peft_suite.py",
)
"""Files whose slow tests take most of a minute and more, from `pytest -m slow --durations=60`."""


def longest_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """Return tests with those of the longest files first, and then those of the largest."""
    items = list(items)
    sizes = Counter(item.path for item in items)
    ranks = {TESTS / name: rank for rank, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[int, int]:
        return ranks.get(item.path, len(ranks)), -sizes[item.path]

    return sorted(items, key=place)
