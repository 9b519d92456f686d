"""What an import loads, proved in fresh interpreters; the first test shows that it can fail."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is not installed; would have shown what the compute layers load",
)

HEAVY = ("torch", "transformers", "peft", "numpy", "safetensors")
CONTRACT_ONLY = ("pydantic", "jsonschema", "yaml")


def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages in `sys.modules` after `statement`."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    return set(result.stdout.split())


@needs_torch
def test_the_proof_fails_where_torch_is_loaded() -> None:
    assert "torch" in loaded_by("import adalora_core.training")


@pytest.mark.parametrize(
    "statement",
    [
        "import adalora_core",
        "import adalora_core.cli",
        "from adalora_core import AdaLoraConfig, check_config, validate_config",
        "from adalora_core.contract.rules import RULES",
        "from adalora_core.contract import schema",
        "import adalora_core.demo",
        "from adalora_core import ConfigError",
    ],
)
def test_the_contract_loads_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement).isdisjoint(HEAVY)


@needs_torch
@pytest.mark.parametrize("layer", ["reference", "ops", "nn", "allocation"])
def test_compute_loads_no_validation(layer: str) -> None:
    assert loaded_by(f"import adalora_core.{layer}").isdisjoint(CONTRACT_ONLY)


@needs_torch
def test_training_loads_neither_peft_nor_transformers() -> None:
    assert loaded_by("import adalora_core.training").isdisjoint({"peft", "transformers"})
