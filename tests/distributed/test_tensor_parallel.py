"""A model that tensor parallelism divides trains as the whole model does on one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from process_groups import run_processes
from tensor_parallel_runs import run_llama, save_llama

if TYPE_CHECKING:
    from pathlib import Path

    from distributed_runs import Trace

pytestmark = pytest.mark.slow
EXACT: dict[str, Any] = {"atol": 1e-9, "rtol": 0}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("llama")
    save_llama(folder)
    return folder


def assert_equal(found: Trace, expected: Trace) -> None:
    assert found.masks == expected.masks
    assert found.parameters.keys() == expected.parameters.keys()
    torch.testing.assert_close(found.losses, expected.losses, **EXACT)
    torch.testing.assert_close(found.parameters, expected.parameters, **EXACT)
    torch.testing.assert_close(found.outputs, expected.outputs, **EXACT)


@pytest.mark.parametrize("changes", [{}, {"orth_reg_weight": 0.0}], ids=["penalty", "no-penalty"])
def test_two_processes_train_as_one(llama: Path, changes: dict[str, Any], tmp_path: Path) -> None:
    expected = run_llama(0, llama, changes)
    assert len(set(expected.budgets)) > 5
    for found in run_processes(2, run_llama, tmp_path, llama, changes):
        assert_equal(found, expected)
