"""The tests of the bridge with other releases of PEFT and transformers than the installed ones."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from peft_releases import ROOT, environment_of, requirements_of, run_tests

from adalora_core.bridge.versions import TRIED
from adalora_core.config.fields.module_names import TRANSFORMERS

CORE = [
    *(f"tests/bridge/test_{name}.py" for name in ("attaching", "injected", "layers")),
    *(f"tests/peft/test_peft_{name}.py" for name in ("module", "reuse", "start")),
]
ALL = [
    *("tests/bridge", "tests/defects", "tests/trainers"),
    *(f"tests/peft/test_peft_{name}.py" for name in ("configs", "mistakes", "suite")),
    "tests/training/test_tuner_merging.py",
    *(f"tests/runs/test_{name}.py" for name in ("matrices_without_gradient", "offload")),
    *(f"tests/runs/test_{name}.py" for name in ("torch_encoder", "trainer_findings")),
    *CORE[3:],
]
NAMES = ("peft", "transformers")
INSTALLED = (version("peft"), version("transformers"))
OTHERS = [pair for pair in TRIED if pair != INSTALLED]


def test_releases_that_the_project_names_are_the_recorded_ones() -> None:
    recorded = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert {f"{name}=={each}" for name, each in zip(NAMES, TRIED[-1], strict=True)} <= {*recorded}
    assert TRIED[-1][1] == TRANSFORMERS


def test_listed_tests_exist() -> None:
    assert [path for path in (*CORE, *ALL) if not (ROOT / path).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("pair", [OTHERS[0]], ids="-".join)
def test_core_tests_pass_with_the_oldest(pair: tuple[str, str], tmp_path: Path) -> None:
    printed = run_tests(environment_of(tmp_path, *requirements_of(pair)), *CORE)
    # Here `add_adapter` of transformers accepts PEFT.
    assert "would have shown an adapter that the library adds" not in printed


@pytest.mark.nightly
@pytest.mark.parametrize("pair", OTHERS, ids="-".join)
def test_all_tests_pass_with_each(pair: tuple[str, str], tmp_path: Path) -> None:
    run_tests(environment_of(tmp_path, *requirements_of(pair)), *ALL)


@pytest.mark.nightly
def test_core_tests_pass_with_what_is_published_now(tmp_path: Path) -> None:
    python = environment_of(tmp_path, "peft", "transformers")
    run_tests(python, "-W", "ignore:adalora_core.bridge. PEFT", *CORE)
