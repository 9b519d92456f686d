"""An export as the loaders of servers read it: the scales and ranks of docs/serving.md.

Each reader below restates in a few lines what the loader of its server does with the two files of
an adapter. Only diffusers is installed; there its own loader runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.commands.cli import main

RANKS = {"layers.0.q": 5, "layers.0.v": 2, "layers.1.q": 1, "layers.1.v": 0}
INIT_R = 6


class Layers(nn.Module):
    """Two blocks with two matrices each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"q": nn.Linear(8, 6), "v": nn.Linear(6, 8)}) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + layer["v"](torch.tanh(layer["q"](x)))  # type: ignore[index]
        return x


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Return a model whose matrices have different ranks, and the folder of its adapter."""
    config = AdaLoraConfig(
        init_r=INIT_R,
        target_r=2,
        lora_alpha=10,
        total_step=9,
        tfinal=3,
        target_modules=["q", "v"],
        importance_criterion=lambda path, _: torch.arange(INIT_R) < RANKS[path],
    )
    model = get_peft_model(Layers(), config)
    allocator = model.base_model.adapters["default"].allocator
    for parameter in allocator.parameters():
        parameter.data.normal_(std=0.4)
    model.finalize()
    assert allocator.active_ranks() == RANKS
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return model.eval(), folder


@pytest.fixture(params=[False, True], ids=["ranks", "padded"])
def export(request: pytest.FixtureRequest, adapter: Any, tmp_path: Path) -> tuple[Path, bool]:
    options = ["--pad-ranks"] if request.param else []
    assert main(["export-lora", str(adapter[1]), str(tmp_path / "lora"), *options]) == 0
    return tmp_path / "lora", request.param


def of_peft(config: dict[str, Any], path: str, rank: int) -> float:
    """Divide the alpha of the first matching pattern by the rank (PEFT, get_pattern_key)."""
    keys = [key for key in config["alpha_pattern"] if re.match(rf"(.*\.)?({key})$", path)]
    return config["alpha_pattern"].get(keys[0] if keys else path, config["lora_alpha"]) / rank


def of_vllm(config: dict[str, Any], _path: str, _rank: int) -> float:
    """Divide the one alpha by the one rank (vllm/lora/peft_helper.py)."""
    return config["lora_alpha"] / config["r"]


def of_each_rank(config: dict[str, Any], _path: str, rank: int) -> float:
    """Divide the one alpha by the rank of each tensor.

    tensorrt_llm/lora_manager.py (effective_rank), and convert_lora_to_gguf.py with get_scale in
    src/llama-adapter.h of llama.cpp.
    """
    return config["lora_alpha"] / rank


def outputs(folder: Path, scale_of: Callable[[dict[str, Any], str, int], float]) -> torch.Tensor:
    """Return the outputs of the base model with the updates of the files."""
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")
    model = Layers()
    for name, A in tensors.items():
        if ".lora_A." in name:
            path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            B = tensors[name.replace(".lora_A.", ".lora_B.")]
            assert len(A) <= config["r"]
            model.get_submodule(path).weight.data += scale_of(config, path, len(A)) * B @ A  # type: ignore[operator]
    return model(inputs())


def inputs() -> torch.Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("scale_of", "needs_padding"), [(of_peft, False), (of_vllm, False), (of_each_rank, True)]
)
def test_the_loaders_compute_what_the_model_computes(
    scale_of: Any, needs_padding: bool, export: tuple[Path, bool], adapter: Any
) -> None:
    folder, is_padded = export
    expected, found = adapter[0](inputs()), outputs(folder, scale_of)
    if needs_padding and not is_padded:
        assert (found - expected).abs().max() > 1e-2
    else:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_peft_itself_loads_both(export: tuple[Path, bool], adapter: Any) -> None:
    loaded = peft.PeftModel.from_pretrained(Layers(), export[0]).eval()
    torch.testing.assert_close(loaded(inputs()), adapter[0](inputs()), rtol=1e-4, atol=1e-4)


def test_the_rank_of_the_file_is_the_largest_and_nothing_forbids_vllm_to_load_it(
    export: tuple[Path, bool],
) -> None:
    folder, is_padded = export
    config = json.loads((folder / "adapter_config.json").read_text())
    sizes = {
        name: len(tensor)
        for name, tensor in load_file(folder / "adapter_model.safetensors").items()
        if ".lora_A." in name
    }
    assert config["r"] == config["lora_alpha"] == max(RANKS.values())
    assert sorted(sizes.values()) == ([5, 5, 5] if is_padded else [1, 2, 5])
    assert not any("layers.1.v" in name for name in sizes)
    assert (config["modules_to_save"], config["bias"]) == (None, "none")
    assert not config.get("use_dora")
    assert not config.get("use_rslora")


@pytest.mark.slow
def test_diffusers_loads_both_with_the_same_outputs(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers", reason="would have shown that its loader agrees")

    def unet() -> Any:
        torch.manual_seed(0)
        return diffusers.UNet2DConditionModel(
            sample_size=8,
            layers_per_block=1,
            block_out_channels=(8, 16),
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
        ).eval()

    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    text = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(2))
    config = AdaLoraConfig(
        init_r=4, target_r=2, total_step=9, tfinal=3, target_modules=["to_q", "to_k", "to_v"]
    )
    model = get_peft_model(unet(), config)
    allocator = model.base_model.adapters["default"].allocator
    for parameter in allocator.parameters():
        parameter.data.normal_(std=0.5, generator=torch.Generator().manual_seed(len(parameter)))
        parameter.grad = torch.randn_like(parameter)
    allocator.step(3)
    model.finalize()
    assert len({*allocator.active_ranks().values()} - {0}) > 1
    with torch.no_grad():
        expected = model.eval()(x, 3, text).sample
        for pad_ranks in (False, True):
            model.export_lora(tmp_path, pad_ranks=pad_ranks)
            loaded = unet()
            loaded.load_lora_adapter(
                tmp_path, prefix="base_model.model", weight_name="adapter_model.safetensors"
            )
            torch.testing.assert_close(loaded(x, 3, text).sample, expected, rtol=1e-4, atol=1e-5)
