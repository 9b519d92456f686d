"""The tests of the four ops run on every device, the others on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from backends import op_backend
from op_devices import DEVICES, device, emulated_core

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["device", "emulated_core", "op_backend"]

OPS = {
    "test_importance",
    "test_orthogonality",
    "test_orthogonality_gradient",
    "test_selection",
    "test_svd_linear",
    "test_watched",
}
# The emulated kernels see as many in tests/csrc/cuda.
ON_REAL_DEVICES = {"test_many_matrices"}
# CUDA kernels make no node with the layer, and a thread has a default device of its own.
ON_CPU = {"test_adapted_linear", "test_threads"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the ops once for each device, those marked `cpu_core` on the CPU alone."""
    if "device" not in metafunc.fixturenames:
        return
    module = metafunc.module.__name__.rpartition(".")[2]
    everywhere = module in OPS and not metafunc.definition.get_closest_marker("cpu_core")
    chosen = 3 * (module in ON_REAL_DEVICES) or 2 * (module in ON_CPU) or 1
    devices = DEVICES if everywhere else DEVICES[:chosen]
    metafunc.parametrize("device", devices, indirect=True)


@pytest.fixture(autouse=True)
def _new_tensors(device: str) -> Iterator[None]:
    """Make the tensors of a test where its kernels are."""
    torch.set_default_device("cuda" if device == "cuda" else None)
    yield
    torch.set_default_device(None)
