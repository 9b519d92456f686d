"""Decide which builds get CUDA kernels: by the setting, nvcc and the NVIDIA driver."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from programs import run

DECISION = Path(__file__).parents[2] / "csrc" / "cuda" / "decision.cmake"
KERNELS = ""
OFF = "ADALORA_CUDA was OFF"
NO_NVCC = "no nvcc was found"
NO_DRIVER = "nvcc was found, but no NVIDIA driver (set ADALORA_CUDA=ON to build them)"


@pytest.fixture
def decide(tmp_path):
    """Returns why a build gets no CUDA kernels, by what is on its machine; empty if it does."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("no cmake; would have decided about CUDA kernels")
    driver, programs = tmp_path / "driver", tmp_path / "bin"
    programs.mkdir()
    script = tmp_path / "decide.cmake"
    script.write_text(f'include("{DECISION.as_posix()}")\nmessage(NOTICE "${{adalora_no_cuda}}")\n')

    def decision(*there, **variables):
        for name in set(there) - {"driver"}:
            (programs / name).write_text("#!/bin/sh\n")
            (programs / name).chmod(0o755)
        if "driver" in there:
            driver.touch()
        done = run(
            *(cmake, f"-DADALORA_DRIVER_FILES=/none;{driver}", "-P", script),
            env={"PATH": str(programs)} | variables,
        )
        return done.stderr.strip()

    return decision


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ((), NO_NVCC),
        (("driver",), NO_NVCC),
        (("nvcc",), NO_DRIVER),
        (("nvcc", "driver"), KERNELS),
        (("nvcc", "nvidia-smi"), KERNELS),
    ],
)
@pytest.mark.parametrize("setting", [{}, {"ADALORA_CUDA": ""}, {"ADALORA_CUDA": "auto"}])
def test_kernels_are_built_unasked_if_there_are_nvcc_and_a_driver(decide, there, expected, setting):
    assert decide(*there, **setting) == expected


@pytest.mark.parametrize(("there", "expected"), [((), NO_DRIVER), (("driver",), KERNELS)])
def test_a_named_cuda_compiler_counts_as_nvcc(decide, there, expected):
    assert decide(*there, CUDACXX="/opt/cuda/bin/nvcc") == expected


@pytest.mark.parametrize("there", [(), ("nvcc",), ("nvcc", "driver")])
@pytest.mark.parametrize(("setting", "expected"), [("ON", KERNELS), ("off", OFF)])
def test_a_setting_decides_whatever_is_there(decide, there, setting, expected):
    assert decide(*there, ADALORA_CUDA=setting) == expected


def test_an_unknown_setting_is_an_error_that_names_the_known_ones(decide):
    assert "ADALORA_CUDA must be AUTO, ON or OFF, got 'maybe'" in decide(ADALORA_CUDA="maybe")
