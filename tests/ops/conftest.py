"""The tests of the four ops run on every device, the others on the CPU."""

from __future__ import annotations

import pytest
from op_devices import DEVICES, device, emulated_core, interpreted_core, new_tensors

__all__ = ["device", "emulated_core", "interpreted_core", "new_tensors"]

OPS = {
    "test_importance",
    "test_orthogonality",
    "test_orthogonality_gradient",
    "test_selection",
    "test_svd_linear",
}
# Torch's operations, for which no interpreter of kernels is asked.
ON_TORCH = {"test_operations_watched", "test_a_compiled_allocation_equals_the_eager_one"}
# CUDA kernels make no node with the layer.
ON_CPU = {"test_adapted_linear"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the ops once for each device, those marked `cpu_core` on the CPU alone."""
    if "device" not in metafunc.fixturenames:
        return
    module = metafunc.module.__name__.rpartition(".")[2]
    if metafunc.definition.get_closest_marker("cpu_core"):
        count = 1
    elif {module, metafunc.function.__name__} & ON_TORCH:
        count = -1
    else:
        count = len(DEVICES) if module in OPS else 2 if module in ON_CPU else 1
    devices = DEVICES[:count]
    metafunc.parametrize("device", devices, indirect=True)
