"""Modules and biases that are trained beside the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from adalora_runs import SETTINGS, make, optimizer_of, train
from toy_models import TwoLayer, outputs, tiny_llama, token_batch

from adalora_core import AdaLoraConfig, AdaLoraModel, RunWarning, get_peft_model


def config(**changes: Any) -> AdaLoraConfig:
    return AdaLoraConfig(**{**SETTINGS, **changes})


class TestModulesToSave:
    def test_the_head_is_trained_saved_and_loaded_on_both_sides(self, tmp_path: Path) -> None:
        torch.manual_seed(5)
        model = get_peft_model(TwoLayer(), config(modules_to_save=["head"]))
        head = model.base_model.model.head
        before = head.original_module.weight.clone()
        train(model, range(30))
        assert torch.equal(head.original_module.weight, before)
        assert not torch.equal(head.modules_to_save["default"].weight, before)
        model.save_pretrained(tmp_path)
        for load in (AdaLoraModel, peft.PeftModel):
            torch.manual_seed(5)
            loaded = load.from_pretrained(TwoLayer(), tmp_path)
            torch.testing.assert_close(outputs(loaded), outputs(model), atol=1e-6, rtol=1e-6)

    def test_a_module_inside_another_gets_no_copy_of_its_own(self, tmp_path: Path) -> None:
        # PEFT copies both, and cannot load what it saves.
        settings = {"target_modules": ["q_proj"], "modules_to_save": ["mlp", "up_proj"]}
        model = get_peft_model(tiny_llama(), config(**settings))
        mlp = model.base_model.model.model.layers[0].mlp.modules_to_save["default"]
        assert type(mlp.up_proj) is torch.nn.Linear
        torch.nn.init.normal_(mlp.up_proj.weight)
        model.save_pretrained(tmp_path)
        loaded = AdaLoraModel.from_pretrained(tiny_llama(), tmp_path)
        batch = token_batch(0)
        torch.testing.assert_close(loaded.eval()(**batch).logits, model.eval()(**batch).logits)

    def test_disabled_uses_the_original_head(self) -> None:
        base = TwoLayer()
        expected = outputs(base)
        model = get_peft_model(base, config(modules_to_save=["head"]))
        train(model, range(5))
        with model.disable_adapter():
            torch.testing.assert_close(outputs(model), expected)

    def test_a_missing_module_is_named(self) -> None:
        # PEFT ignores the name; the run works without it, so it is a finding and not an error.
        with pytest.warns(RunWarning, match="ADA807: modules_to_save 'classifier'"):
            model = get_peft_model(TwoLayer(), config(modules_to_save=["classifier"]))
        assert not [*model.base_model.saved_modules()]


class TestBias:
    @pytest.mark.parametrize(("bias", "trained"), [("none", 0), ("lora_only", 2), ("all", 3)])
    def test_the_biases_that_are_asked_for_learn(self, bias: str, trained: int) -> None:
        model = get_peft_model(TwoLayer(), config(bias=bias))
        found = [name for name, each in model.named_parameters() if each.requires_grad]
        assert sum(name.endswith(".bias") for name in found) == trained

    @pytest.mark.parametrize("bias", ["lora_only", "all"])
    def test_they_are_saved_and_loaded_on_both_sides(self, bias: str, tmp_path: Path) -> None:
        torch.manual_seed(5)
        model = get_peft_model(TwoLayer(), config(bias=bias))
        train(model, range(30))
        model.save_pretrained(tmp_path)
        for load in (AdaLoraModel, peft.PeftModel):
            torch.manual_seed(5)
            loaded = load.from_pretrained(TwoLayer(), tmp_path)
            torch.testing.assert_close(outputs(loaded), outputs(model), atol=1e-6, rtol=1e-6)


def test_rows_of_an_embedding_that_are_trained_and_saved_are_no_finding(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    rows = {"target_modules": ["q_proj"], "trainable_token_indices": [3, 4]}
    model = make("attached", tiny_llama(), **rows)
    optimizer = optimizer_of(model)
    for step in range(2):
        model(**token_batch(step)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(tmp_path)
    assert not [each for each in recwarn if "ADA823" in str(each.message)]
