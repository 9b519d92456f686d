"""The plan of LoRA is what PEFT injects: names, shapes, scales, trained numbers, the file."""

from __future__ import annotations

import dataclasses
import random

import peft
import pytest
import torch
from lora_injections import disagreement, drawn, planned
from lora_models import fresh, header
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING

from adalora_core.checker.plan import lora
from adalora_core.checker.plan.header import file_bytes


def disagreements(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)  # noqa: S311 - configurations
    found = []
    for _ in range(count):
        name, fields = drawn(rng)
        if difference := disagreement(name, fields):
            found.append(f"{name} {fields}: {difference}")
    return found


def test_plan_of_drawn_configurations_is_what_peft_injects() -> None:
    assert disagreements(seed=34, count=60) == []


def test_key_that_is_no_expression_of_itself_means_its_own_path() -> None:
    fields = {"target_modules": ["q+v"], "rank_pattern": {"odd.q+v": 3}}
    assert disagreement("plain torch", fields) == ""
    assert [each.rank for each in planned("plain torch", fields).adapted] == [3]


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [20, random.SystemRandom().randrange(2**32)], ids=["fixed", "new"])
def test_plan_of_many_drawn_configurations_is_what_peft_injects(seed: int) -> None:
    assert disagreements(seed, count=400) == [], f"seed {seed}"


def test_each_field_of_peft_is_counted_or_named_as_not_counted() -> None:
    assert {field.name for field in dataclasses.fields(peft.LoraConfig)} <= lora.USES.keys()


def test_targets_of_a_model_type_are_those_of_peft() -> None:
    own = {
        name: value if isinstance(value, str) else list(value)
        for name, value in lora.LORA_TARGETS.items()
    }
    assert own == TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING


CASES = {
    "factors": ("llama", {"target_modules": ["q_proj", "down_proj"], "use_dora": True}),
    "an embedding, which is saved too": ("llama, tied", {"target_modules": ["embed_tokens"]}),
    "a copy, biases and tokens": (
        "gpt_oss",
        {
            "target_modules": ["q_proj"], "modules_to_save": ["o_proj"], "bias": "lora_only",
            "trainable_token_indices": [1, 2],
        },
    ),
    "stacked experts": ("mixtral", {"target_modules": "all-linear"}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # PEFT warns of tied weights and of patterns that it made
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_bytes_planned_are_those_of_the_file_and_of_what_is_trained(
    case: str, dtype: torch.dtype, tmp_path
) -> None:
    name, fields = CASES[case]
    model = peft.get_peft_model(fresh(name).to(dtype), peft.LoraConfig(**fields))
    model.save_pretrained(tmp_path)

    plan = planned(name, fields, header(name, dtype))
    assert file_bytes(plan.file()) == (tmp_path / "adapter_model.safetensors").stat().st_size
    trained = [each for each in model.parameters() if each.requires_grad]
    assert plan.training_bytes == 4 * sum(each.nbytes for each in trained)


def test_peft_ignores_an_entry_that_matches_nothing() -> None:
    # Warnings are errors here: this is why the plan has a note.
    fields = {"target_modules": ["q_proj", "v_prj"]}
    peft.get_peft_model(fresh("llama"), peft.LoraConfig(**fields))
    (note,) = planned("llama", fields).notes
    assert note.startswith(
        "target_modules[1] 'v_prj' matches no module; did you mean [\"v_proj\"]?"
    )
