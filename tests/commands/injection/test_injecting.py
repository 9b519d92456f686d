"""The plan is what PEFT makes of the loaded model: tensors, scales, trained numbers, bytes."""

from __future__ import annotations

import random
from pathlib import Path

import injections
import pytest
from injections import disagreements, folder_of, injected
from peft.utils.constants import TRANSFORMERS_MODELS_TO_ADALORA_TARGET_MODULES_MAPPING
from peft_releases import environment_of
from programs import run
from tiny_classes import CLASSES

from adalora_core.bridge.versions import TRIED
from adalora_core.floor.module_selection import DEFAULT_TARGETS

SUPPORT = str(Path(injections.__file__).parent)
LLAMA = "LlamaForCausalLM", "float32"


@pytest.mark.slow
def test_plan_of_drawn_configurations_is_what_peft_makes() -> None:
    assert disagreements(random.Random(34), 20) == []  # noqa: S311 - configurations


@pytest.mark.nightly
def test_plan_of_400_drawn_configurations_is_what_peft_makes() -> None:
    assert len(CLASSES) >= 60
    assert disagreements(random.Random(47), 400) == []  # noqa: S311 - configurations


@pytest.mark.nightly
def test_plan_of_many_drawn_configurations_is_what_peft_makes() -> None:
    seed = random.SystemRandom().randrange(2**32)
    assert disagreements(random.Random(seed), 2000) == [], f"seed {seed}"  # noqa: S311 - as above


@pytest.mark.nightly
def test_plan_is_what_the_oldest_served_release_makes(tmp_path: Path) -> None:
    code = "import random; from injections import disagreements; "
    code += "assert (found := disagreements(random.Random(18), 100)) == [], found"
    python = environment_of(tmp_path, f"peft=={TRIED[0][0]}")
    done = run(python, "-c", code, timeout=1800, variables={"PYTHONPATH": SUPPORT})
    assert done.returncode == 0, done.stderr


LORA = {"r": 8, "lora_alpha": 16}


def test_targets_of_a_model_type_are_those_of_peft() -> None:
    own = {
        name: value if isinstance(value, str) else list(value)
        for name, value in DEFAULT_TARGETS.items()
    }
    assert own == TRANSFORMERS_MODELS_TO_ADALORA_TARGET_MODULES_MAPPING


def test_peft_ignores_an_entry_that_matches_nothing() -> None:
    # Warnings are errors here: this is why the plan has a note.
    fields = LORA | {"target_modules": ["q_proj", "v_prj"]}
    assert injected(str(folder_of(LLAMA)), LLAMA[0], fields).error == ""
