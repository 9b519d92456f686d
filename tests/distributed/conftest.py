"""Four processes on two cores take turns: what needs as many is in the slow tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from peft_releases import environment_of

pytest.register_assert_rewrite("distributed_runs")

MANY = 4
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests here that a parameter gives so many processes."""
    for item in items:
        if item.get_closest_marker("nightly"):
            continue
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


@pytest.fixture(scope="session")
def python_with_deepspeed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an interpreter with DeepSpeed, which is built from its source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS_BUILD_OPS", "0")
        patch.setenv("DS_ACCELERATOR", "cpu")
        return environment_of(tmp_path_factory.mktemp("deepspeed"), "deepspeed>=0.19")
