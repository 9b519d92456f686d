"""A model whose layers are on several devices, with a stand-in for the second one."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import output_of_python

FAR_DEVICE = Path(__file__).parents[1] / "support" / "far_device.py"


@pytest.mark.slow
def test_a_model_on_two_devices_is_trained_saved_and_resumed(tmp_path: Path) -> None:
    printed = output_of_python("-W", "ignore", FAR_DEVICE, tmp_path, timeout=600)
    assert printed.split() == ["far", "cpu"]
