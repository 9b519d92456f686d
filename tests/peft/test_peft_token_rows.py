"""`trainable_token_indices`: rows of an embedding are trained, saved and loaded as PEFT does."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import peft
import pytest
import torch
from adalora_runs import LOADERS
from safetensors.torch import load_file
from script_parts import base_model
from token_row_jobs import TOKENS, batch, train_rows, with_rows

import adalora_core

if TYPE_CHECKING:
    from pathlib import Path

LLAMA, ROWS = "LlamaForCausalLM", "token_adapter.trainable_tokens_delta"
CASES: dict[str, tuple[str, bool, Any]] = {
    "tied": (LLAMA, True, [30, 31]),
    "untied": (LLAMA, False, [30, 31]),
    "both names": (LLAMA, True, {"embed_tokens": [30, 31], "lm_head": [30, 31]}),
    "other rows of each": (LLAMA, True, {"embed_tokens": [30], "lm_head": [31]}),
    "head alone": (LLAMA, True, {"lm_head": [30]}),
    "end of a name": (LLAMA, False, {"tokens": [30]}),
    "scaled embedding": ("BartForConditionalGeneration", True, [30]),
}


def base(name: str = LLAMA, *, tied: bool = True) -> Any:
    return base_model(name, tie_word_embeddings=tied)


def run(library: str, name: str = LLAMA, *, tied: bool = True, tokens: Any = TOKENS) -> Any:
    """Return a trained model and its losses."""
    model = with_rows(library, base(name, tied=tied), tokens)
    return model, train_rows(model)


@torch.no_grad()
def outputs(model: Any) -> torch.Tensor:
    return model.eval()(input_ids=batch(99)).logits


def names(folder: Path) -> set[str]:
    tensors = load_file(folder / "adapter_model.safetensors")
    return {name for name in tensors if ".lora_" not in name}


@pytest.mark.parametrize("case", CASES)
def test_our_models_train_save_and_load_as_peft_does(case: str, tmp_path: Path) -> None:
    name, tied, tokens = CASES[case]
    models = {}
    for library in ("peft", "adalora_core"):
        models[library], losses = run(library, name, tied=tied, tokens=tokens)
        models[library].save_pretrained(tmp_path / library)
        torch.testing.assert_close(losses, models.setdefault("losses", losses), rtol=1e-5, atol=0)
    assert names(tmp_path / "adalora_core") == names(tmp_path / "peft") != set()
    for library in ("peft", "adalora_core"):
        for loader in ("peft", "adalora_core"):
            loaded = LOADERS[loader].from_pretrained(base(name, tied=tied), tmp_path / library)
            torch.testing.assert_close(outputs(loaded), outputs(models[library]))


def test_every_door_trains_the_same_rows(door: str, tmp_path: Path) -> None:
    model, losses = run(door)
    torch.testing.assert_close(losses, run("adalora_core")[1], rtol=1e-5, atol=0)
    model.save_pretrained(tmp_path)
    assert names(tmp_path) == {f"base_model.model.model.embed_tokens.{ROWS}"}
    loaded = LOADERS[door].from_pretrained(base(), tmp_path, is_trainable=True)
    torch.testing.assert_close(outputs(loaded), outputs(model))
    with pytest.raises(TypeError, match="do not support LoRA conversion"):
        peft.convert_to_lora(model, 2)


@pytest.mark.parametrize("writer", ["peft", "adalora_core"])
@pytest.mark.parametrize("reader", ["peft", "adalora_core"])
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
def test_an_embedding_with_new_tokens_is_saved_beside_its_rows(
    writer: str, reader: str, tmp_path: Path
) -> None:
    base().save_pretrained(tmp_path / "base")

    def resized(value: float) -> Any:
        model = type(base()).from_pretrained(tmp_path / "base")
        model.resize_token_embeddings(44, mean_resizing=False)
        with torch.no_grad():
            model.lm_head.weight[40:] = value
        return model

    model = with_rows(writer, resized(1.0), [30, 42])
    model.save_pretrained(tmp_path / "adapter")
    loaded = LOADERS[reader].from_pretrained(resized(2.0), tmp_path / "adapter")
    torch.testing.assert_close(outputs(loaded), outputs(model))
    if reader == writer == "adalora_core":
        state = adalora_core.get_peft_model_state_dict(model)
        other = with_rows(reader, resized(3.0), [30, 42])
        assert not any(adalora_core.set_peft_model_state_dict(other, state))
        torch.testing.assert_close(outputs(other), outputs(model))


def test_what_else_a_model_of_ours_does_with_its_rows(tmp_path: Path) -> None:
    model, _ = run("adalora_core")
    trained, plain = outputs(model), outputs(base())
    assert (trained - plain).abs().max() > 0.1
    with model.disable_adapter():
        torch.testing.assert_close(outputs(model), plain)
    (state,) = [k for k in peft.get_peft_model_state_dict(model) if ".lora_" not in k]
    assert state == f"base_model.model.model.embed_tokens.{ROWS}"
    assert peft.get_model_status(model).active_adapters == ["default"]
    model.export_lora(tmp_path)
    served = peft.PeftModel.from_pretrained(base(), tmp_path)
    torch.testing.assert_close(outputs(served), trained)
    merged = copy.deepcopy(model).merge_and_unload()
    torch.testing.assert_close(outputs(merged), trained)
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    torch.testing.assert_close(outputs(copy.deepcopy(model).unload()), plain)
    other = adalora_core.AdaLoraConfig(
        target_modules=["q_proj"], total_step=30, trainable_token_indices=[5]
    )
    model.add_adapter("other", other)
    model.set_adapter("other")
    torch.testing.assert_close(outputs(model), plain)
    learning = [name for name, each in model.named_parameters() if each.requires_grad]
    assert [name for name in learning if ROWS in name] == [
        f"base_model.model.model.embed_tokens.modules_to_save.other.{ROWS}"
    ]
    model.set_adapter("default")
    torch.testing.assert_close(outputs(model), trained)


def test_rows_of_a_base_in_bfloat16_are_float32() -> None:
    model = with_rows("adalora_core", base().to(torch.bfloat16), [30])
    (rows,) = [each for name, each in model.named_parameters() if ROWS in name]
    assert rows.dtype == torch.float32
    model.train()(input_ids=batch(0), labels=batch(0)).loss.backward()
    assert rows.grad.abs().max() > 0
