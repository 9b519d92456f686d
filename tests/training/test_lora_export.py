"""A pruned adapter exported as LoRA gives the same outputs in PEFT."""

from __future__ import annotations

import json
import math
from pathlib import Path

import peft
import pytest
import torch
from adalora_runs import SETTINGS, end_step, final_ranks, make, train, weaken_second
from run_loops import right, run_of
from safetensors.torch import load_file, save_file
from torch import nn
from toy_models import outputs, tiny_llama, token_batch, two_layer

from adalora_core import AdaLoraConfig, RunWarning, get_peft_model
from adalora_core.floor.errors import CheckpointError, TargetError
from adalora_core.nn import AdaLoraLayer
from adalora_core.training.lora_export import export_folder


def disturb(model: nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=0.3)


def test_several_ranks_give_the_same_outputs_in_peft(tmp_path: Path) -> None:
    model = make("adalora_core", two_layer())
    train(model, range(30))
    assert len(set(final_ranks(model))) > 1
    model.export_lora(tmp_path)
    loaded = peft.PeftModel.from_pretrained(two_layer(), tmp_path)
    assert isinstance(loaded.base_model, peft.LoraModel)
    assert (outputs(loaded) - outputs(model)).abs().max() <= 1e-6


def test_modules_at_rank_zero_are_left_out(tmp_path: Path) -> None:
    model = make("adalora_core", two_layer(), init_r=4, target_r=1)
    train(model, range(30), before_step=weaken_second)
    assert final_ranks(model) == [2, 0]
    model.export_lora(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == ["first"]
    loaded = peft.PeftModel.from_pretrained(two_layer(), tmp_path)
    assert (outputs(loaded) - outputs(model)).abs().max() <= 1e-6


def test_a_convolution_at_rank_zero_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 2, 1))
    settings = {**SETTINGS, "init_r": 4, "target_r": 1, "orth_reg_weight": 0}
    settings["target_modules"] = ["0", "1"]
    model = get_peft_model(base, AdaLoraConfig(**settings))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(30):
        model(torch.randn(2, 4, 5, 5)).square().mean().backward()
        for factor in "AEB":
            getattr(model.base_model.model[0], f"lora_{factor}")["default"].grad.mul_(1e-3)
        end_step(model, optimizer, step)
    assert final_ranks(model)[0] == 0
    model.eval()
    x = torch.randn(2, 4, 5, 5)
    expected = model(x)
    model.export_lora(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == ["1"]
    loaded = peft.PeftModel.from_pretrained(model.unload(), tmp_path)
    torch.testing.assert_close(loaded(x), expected, atol=1e-5, rtol=1e-5)


def test_a_language_model_gives_the_same_logits_in_peft(tmp_path: Path) -> None:
    model = make("adalora_core", tiny_llama(), target_modules="all-linear", lora_alpha=3)
    disturb(model)
    model.finalize()
    model.eval().export_lora(tmp_path)
    loaded = peft.PeftModel.from_pretrained(tiny_llama(), tmp_path).eval()
    ids = token_batch(0)["input_ids"]
    with torch.no_grad():
        found, expected = loaded(input_ids=ids).logits, model(input_ids=ids).logits
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_convolutions_and_transposed_layers_give_the_same_outputs(tmp_path: Path) -> None:
    from transformers.pytorch_utils import Conv1D

    def base() -> nn.Module:
        torch.manual_seed(7)
        return nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.Flatten(2), Conv1D(5, 9))

    x = torch.randn(2, 4, 3, 3)
    settings = {**SETTINGS, "target_modules": ["0", "2"], "fan_in_fan_out": True}
    model = get_peft_model(base(), AdaLoraConfig(**settings))
    disturb(model)
    model.finalize()
    model.export_lora(tmp_path)
    loaded = peft.PeftModel.from_pretrained(base(), tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), atol=1e-5, rtol=1e-5)


def test_whole_trained_modules_and_biases_are_carried_over(tmp_path: Path) -> None:
    model = make("adalora_core", two_layer(), modules_to_save=["head"], bias="all")
    train(model, range(30))
    model.export_lora(tmp_path)
    loaded = peft.PeftModel.from_pretrained(two_layer(), tmp_path)
    assert (outputs(loaded) - outputs(model)).abs().max() <= 1e-6


@pytest.mark.parametrize("pad_ranks", [False, True])
def test_from_files_alone_writes_what_the_model_writes(pad_ranks: bool, tmp_path: Path) -> None:
    model = make("adalora_core", two_layer())
    train(model, range(30))
    model.save_pretrained(tmp_path / "adalora")
    model.export_lora(tmp_path / "expected", pad_ranks=pad_ranks)
    export_folder(tmp_path / "adalora", tmp_path / "found", pad_ranks=pad_ranks)
    found, expected = (
        load_file(tmp_path / each / "adapter_model.safetensors") for each in ("found", "expected")
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    configs = [
        json.loads((tmp_path / each / "adapter_config.json").read_text())
        for each in ("found", "expected")
    ]
    assert configs[0] == configs[1]


def test_an_empty_adapter_is_refused(tmp_path: Path) -> None:
    model = make("adalora_core", two_layer())
    for layer in model.base_model.adapters["default"].layers.values():
        layer.set_factors(
            lora_A=torch.zeros(0, 16), lora_E=torch.zeros(0, 1), lora_B=torch.zeros(16, 0)
        )
    with pytest.raises(CheckpointError, match="no triplet is left"):
        model.export_lora(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_grouped_convolution_is_refused(tmp_path: Path) -> None:
    base = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2))
    model = get_peft_model(base, AdaLoraConfig(**{**SETTINGS, "target_modules": ["0"]}))
    with pytest.raises(TargetError, match="convolution with groups"):
        model.export_lora(tmp_path / "out")


class SVDConv1d(AdaLoraLayer):
    """A layer type that somebody adds: it trains, saves and merges, and nobody thought of LoRA."""

    base_layer: nn.Conv1d

    @property
    def factor_shapes(self) -> tuple[int, int]:
        rows, *window = self.base_layer.weight.shape
        return math.prod(window), rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.base_layer(x)
        for A, E, B, scale, _ in self._products():
            kernel = (B @ (A * E * scale)).reshape(self.base_layer.weight.shape)
            output = output + nn.functional.conv1d(x, kernel)
        return output

    def delta_weight(self) -> torch.Tensor:
        return super().delta_weight().reshape(self.base_layer.weight.shape)


def test_a_layer_type_without_a_form_as_lora_is_refused(tmp_path: Path) -> None:
    base = nn.Sequential(SVDConv1d(nn.Conv1d(4, 6, 3)))
    model = get_peft_model(base, AdaLoraConfig(**{**SETTINGS, "target_modules": ["0"]}))
    x = torch.randn(2, 4, 5)
    model(x).square().sum().backward()
    disturb(model)
    model.update_and_allocate(0)
    model.save_pretrained(tmp_path / "adapter", save_training_state=True)
    model.finalize()
    with pytest.raises(TargetError, match=r"'0' is .* a layer of a type of its own"):
        model.export_lora(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    expected = model(x)
    torch.testing.assert_close(model.merge_and_unload()(x), expected, atol=1e-5, rtol=1e-5)


def test_export_never_replaces_the_adapter_that_it_reads(tmp_path: Path) -> None:
    model = make("adalora_core", two_layer())
    train(model, range(30))
    model.save_pretrained(tmp_path / "adapter")
    before = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    (tmp_path / "same").symlink_to("adapter")
    with pytest.raises(CheckpointError, match=r"would replace .* name another folder"):
        export_folder(tmp_path / "adapter", tmp_path / "same")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}


def test_checkpoint_exported_from_its_files_is_named(tmp_path: Path) -> None:
    model, _ = run_of("adalora_core", right, 8)
    model.save_pretrained(tmp_path / "checkpoint", save_training_state=True)
    with pytest.warns(RunWarning, match=r"^ADA811: .* with 1\d triplets, target 16"):
        export_folder(tmp_path / "checkpoint", tmp_path / "lora")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_products_beyond_the_range_of_the_dtype_are_refused(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    model = make("adalora_core", two_layer())
    train(model, range(30))
    model.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    largest = torch.finfo(dtype).max
    tensors = {
        name: torch.full_like(each, largest, dtype=dtype) for name, each in load_file(path).items()
    }
    save_file(tensors, path)
    with pytest.raises(
        CheckpointError, match=f"export_lora: .*first.* beyond the range of {dtype}"
    ):
        export_folder(tmp_path / "adapter", tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
