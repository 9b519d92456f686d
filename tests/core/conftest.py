"""The tests of the compiled core run on a CPU, and where a file says so on other devices."""

from __future__ import annotations

import pytest
from op_devices import DEVICES, device, emulated_core, interpreted_core, new_tensors

__all__ = ["device", "emulated_core", "interpreted_core", "new_tensors"]

# Emulated kernels see as many matrices in tests/csrc/cuda; a thread has its own default device.
DEVICES_OF = {
    "test_many_matrices": DEVICES[:3],
    "test_threads": DEVICES[:2],
    "test_cuda_calls": DEVICES[-1:],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test once for each device of its file."""
    if "device" in metafunc.fixturenames:
        module = metafunc.module.__name__.rpartition(".")[2]
        metafunc.parametrize("device", DEVICES_OF.get(module, DEVICES[:1]), indirect=True)
