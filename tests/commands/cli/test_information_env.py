"""Test `adalora env`: a complete install, no torch, a broken core, a wrong variable."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from types import ModuleType
from typing import cast

import pytest

from adalora_core.commands.cli.information import _code, _cuda_backend

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is not installed; would have shown the line about the core that torch loads",
)

HIDE = """
import sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in {hidden!r}:
            {action}
sys.meta_path.insert(0, Hide())
{before}
from adalora_core.commands.cli import main
sys.exit(main(["env"]))
"""


def env(*, hidden: tuple[str, ...] = (), before: str = "", **variables: str) -> tuple[int, str]:
    action = "raise ImportError(f'no module {name}')"
    script = HIDE.format(hidden=hidden, action=action, before=before)
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in run.stderr
    return run.returncode, run.stdout


@needs_torch
def test_env_names_versions_backend_and_instruction_set() -> None:
    code, text = env()
    assert code == 0
    for word in ("adalora-core", "python", "torch", "peft", "transformers", "CPU backend", "CUDA"):
        assert word in text
    assert "compiled, instruction set" in text
    assert "thread" in text
    assert re.search(r"^torch +\d\S+$", text, re.MULTILINE)


def as_module(**attributes: object) -> ModuleType:
    module = ModuleType("stand-in")
    module.__dict__.update(attributes)
    return module


@pytest.mark.parametrize(
    ("core", "reason"),
    [
        (as_module(no_cuda_reason="nvcc was found, but no NVIDIA driver"), ": nvcc was found, but"),
        (None, " (docs/build.md)"),  # a pure-Python install
    ],
)
def test_env_without_cuda_kernels_names_the_reason(
    core: ModuleType | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "adalora_core._cuda", cast("ModuleType", None))
    monkeypatch.setitem(sys.modules, "adalora_core._cpu", cast("ModuleType", core))
    line = _cuda_backend()
    assert line.startswith(f"none: this build has no CUDA kernels{reason}")
    assert line.endswith("(docs/build.md); CUDA tensors use the portable backend")


NO_DRIVER = "no driver is installed; CUDA tensors use the portable backend"


@pytest.mark.parametrize(
    ("compiled", "required", "served", "expected"),
    [
        (13000, 13000, 0, f"13.0, {NO_DRIVER}"),
        (
            13000,
            13000,
            12080,
            "the installed driver supports CUDA 12.8; CUDA tensors use the portable backend",
        ),
        (13000, 13000, 13010, "the installed driver supports CUDA 13.1"),
        (12080, 12010, 0, f"12.1, {NO_DRIVER}"),
        (
            12080,
            12010,
            12000,
            "the installed driver supports CUDA 12.0; CUDA tensors use the portable backend",
        ),
        (12080, 12010, 12010, "the installed driver supports CUDA 12.1"),
    ],
)
def test_env_names_the_driver_that_the_kernels_need_and_the_one_that_is_there(
    compiled: int, required: int, served: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = as_module(
        architectures="80-real, 90",
        runtime_version=lambda: compiled,
        required_driver_version=lambda: required,
        driver_version=lambda: served,
    )
    monkeypatch.setitem(sys.modules, "adalora_core._cuda", kernels)
    line = _cuda_backend()
    version = f"{compiled // 1000}.{compiled % 1000 // 10}"
    assert f"compiled with CUDA {version} for sm_80, sm_90 and PTX of compute_90; needs" in line
    assert line.endswith(expected)


@pytest.mark.parametrize(
    ("architectures", "expected"),
    [
        ("75-real, 80-real, 120", "sm_75, sm_80, sm_120 and PTX of compute_120"),
        ("90a-real", "sm_90a"),
        ("80-virtual", "PTX of compute_80"),
    ],
)
def test_env_names_the_code_that_a_build_holds(architectures: str, expected: str) -> None:
    assert _code(architectures) == expected


@pytest.mark.slow
def test_env_reports_a_forced_instruction_set() -> None:
    code, text = env(ADALORA_CORE_ISA="baseline")
    assert code == 0
    assert "baseline (ADALORA_CORE_ISA)" in text


def test_env_without_torch_works_and_names_the_extra() -> None:
    hide_torch = (
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)"
    )
    code, text = env(hidden=("torch",), before=hide_torch)
    assert code == 0
    assert "pip install '.[torch]'" in text


@pytest.mark.slow
@needs_torch
def test_env_with_a_core_that_was_not_built_gives_the_remedy() -> None:
    code, text = env(hidden=("adalora_core._cpu",))
    assert code == 2
    assert "missing: the compiled core adalora_core._cpu cannot be loaded" in text
    assert "pip install ." in text


@pytest.mark.slow
@needs_torch
def test_env_with_an_unknown_instruction_set_lists_the_known_ones() -> None:
    code, text = env(ADALORA_CORE_ISA="sse9")
    assert code == 2
    assert "ADALORA_CORE_ISA must be one of" in text
