"""Test what a command imports: never torch, and for a JSON file not even pydantic."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from header_files import small_llama, write_model

import adalora_core
from adalora_core.config.rules.base import SOUND

HEAVY = ("torch", "numpy", "transformers", "peft", "safetensors")
MOST_MODULES = 42
"""Modules of this package that `AdaLoraConfig(...)` loads."""
UNNEEDED = ("pydantic", "jsonschema", "yaml", "tomllib", "hypothesis")


def _loaded(code, names):
    """Run `code` in a fresh interpreter and return which of `names` it imported."""
    listing = f"json.dumps([name for name in {names!r} if name in sys.modules])"
    probe = f"{code}\nimport sys, json\nsys.stderr.write({listing})"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return json.loads(done.stderr)


def _command(*arguments):
    return f"from adalora_core.commands.cli import main\nmain({list(arguments)!r})"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(SOUND | {"deltaT": 0, "delta_t": 1, "target_modules": "q.*"}))
    return str(path)


def test_plan_without_weights_loads_nothing_heavy(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(SOUND))
    assert _loaded(_command("plan", str(path)), HEAVY + UNNEEDED) == []


@pytest.mark.slow
def test_plan_for_given_weights_loads_no_compute_of_this_package(tmp_path):
    pytest.importorskip("peft")
    model = write_model(tmp_path / "model.safetensors", small_llama())
    path = tmp_path / "run.json"
    path.write_text(json.dumps(SOUND))
    code = _command("plan", str(path), "--weights", str(model))
    own = ("adalora_core.ops", "adalora_core.training", "adalora_core.bridge", "adalora_core._cpu")
    assert _loaded(code, own) == []


@pytest.mark.parametrize("output", ["full", "json"])
def test_check_of_a_json_file_loads_nothing_heavy_and_nothing_unneeded(file, output):
    code = _command("check", file, "--output-format", output)
    assert _loaded(code, HEAVY + UNNEEDED) == []


def test_check_of_a_right_file_loads_no_slow_module_of_the_standard_library(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(SOUND))
    slow = ("shutil", "bz2", "lzma", "difflib", "pathspec", "tempfile", "logging")
    before = _loaded("pass", slow)  # an editable installation may load some
    assert _loaded(_command("check", "--isolated", str(path)), slow) == before


@pytest.mark.parametrize(
    "code",
    [
        "import adalora_core, adalora_core.checker",
        _command("rule", "ADA202"),
        _command("rule"),
        _command("schema"),
    ],
)
def test_other_commands_and_imports_load_nothing_heavy(code):
    assert _loaded(code, HEAVY) == []


def test_typed_model_loads_pydantic_and_nothing_heavy():
    code = "from adalora_core import AdaLoraConfig, validate_config\nAdaLoraConfig(total_step=9)"
    assert _loaded(code, (*HEAVY, "pydantic")) == ["pydantic"]


def test_typed_model_loads_few_modules_of_ours_and_no_checker():
    code = "from adalora_core import AdaLoraConfig\nAdaLoraConfig(total_step=100)"
    package = Path(adalora_core.__file__).parent
    names = sorted(
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in package.rglob("*.py")
    )
    loaded = _loaded(code, names)
    assert len(loaded) <= MOST_MODULES
    assert not [name for name in loaded if name.startswith("adalora_core.checker")]


def test_base_installation_needs_four_packages_and_none_of_them_is_heavy():
    base = {
        re.match(r"[\w-]+", requirement)[0].lower()
        for requirement in importlib.metadata.requires("adalora-core")
        if "extra ==" not in requirement
    }
    assert base == {"pydantic", "jsonschema", "pyyaml", "pathspec"}


def test_probe_sees_a_module_that_was_loaded():
    # Otherwise the tests above could pass because the probe never finds a module.
    assert _loaded("import tomllib", ("tomllib", "torch")) == ["tomllib"]
