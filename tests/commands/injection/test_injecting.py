"""The plan is what PEFT makes of the loaded model: tensors, scales, trained numbers, bytes."""

from __future__ import annotations

import random
from pathlib import Path

import injections
import peft
import pytest
from injections import difference, disagreements, folder_of, injected, planned
from peft.utils.constants import TRANSFORMERS_MODELS_TO_ADALORA_TARGET_MODULES_MAPPING
from peft_releases import environment_of
from programs import run
from tiny_classes import CLASSES

from adalora_core.bridge.versions import TRIED
from adalora_core.floor.module_selection import DEFAULT_TARGETS

SUPPORT = str(Path(injections.__file__).parent)
LLAMA = "LlamaForCausalLM", "float32"


def test_plan_of_drawn_configurations_is_what_peft_makes() -> None:
    assert disagreements(random.Random(34), 20) == []  # noqa: S311 - configurations


@pytest.mark.slow
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
ADALORA = {"init_r": 4, "target_r": 2, "total_step": 20, "tinit": 1, "tfinal": 2}
FOUND_BEFORE = {
    "names of transformers 4": ("DeiTForImageClassification", LORA, ["query", "value"]),
    "names of transformers 5": ("Dinov2Model", LORA | {"use_dora": True}, ["q_proj", "v_proj"]),
    "an anchored expression": ("Qwen2VLForConditionalGeneration", LORA, "model.*[.]q_proj"),
    "stacked experts": ("GraniteMoeForCausalLM", LORA, "all-linear"),
    "AdaLoRA of experts": ("Qwen3MoeForCausalLM", ADALORA, "all-linear"),
    "AdaLoRA of renamed layers": ("ViTForImageClassification", ADALORA, ["classifier", "fc1"]),
    "tokens of AdaLoRA": (
        "LlamaForCausalLM", ADALORA | {"trainable_token_indices": [1, 2]}, ["q_proj"]
    ),
    "a tied head": ("M2M100ForConditionalGeneration", LORA, ["lm_head", "q_proj"]),
    "an embedding": ("LlamaForCausalLM", LORA, ["embed_tokens", "lm_head"]),
    "replicated layers": ("LlamaForCausalLM", LORA | {"layer_replication": [[0, 2]]}, ["q_proj"]),
    "replication without a list": (
        "ResNetForImageClassification", LORA | {"layer_replication": [[0, 1]]}, ["convolution"]
    ),
    "an odd orthogonal rank": (
        "LlamaForCausalLM", LORA | {"r": 3, "init_lora_weights": "orthogonal"}, ["q_proj"]
    ),
    "PiSSA": ("LlamaForCausalLM", LORA | {"init_lora_weights": "pissa"}, ["q_proj"]),
    "PiSSA of a convolution": (
        "ResNetForImageClassification", LORA | {"init_lora_weights": "pissa"}, ["convolution"]
    ),
    "a mixer of Mamba": ("MambaForCausalLM", LORA, ["out_proj"]),
    "a grouped convolution": ("MambaForCausalLM", LORA, ["conv1d"]),
    "biases beside buffers": (
        "ResNetForImageClassification", LORA | {"bias": "all"}, ["classifier.1"]
    ),
    "a parameter of Conv1D": (
        "GPT2LMHeadModel", LORA | {"target_parameters": ["c_fc.weight"]}, ["c_attn"]
    ),
    "a copy in float32": (
        "T5ForConditionalGeneration float16", LORA | {"modules_to_save": ["o"]}, ["q"]
    ),
    "blocks": ("LlamaForCausalLM", LORA | {"use_bdlora": peft.BdLoraConfig(nblocks=2)}, ["q_proj"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND_BEFORE)
def test_fault_of_the_imitation_is_none_of_the_injection(case: str) -> None:
    model, fields, targets = FOUND_BEFORE[case]
    name, _, dtype = model.partition(" ")
    model, fields = (name, dtype or "float32"), fields | {"target_modules": targets}
    assert difference(injected(str(folder_of(model)), name, fields), planned(model, fields)) == ""


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
