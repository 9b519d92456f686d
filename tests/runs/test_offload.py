"""Adapters of models whose weights accelerate keeps on the CPU or on disk between two forwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from adalora_runs import LOADERS, end_step, make, optimizer_of
from toy_models import tiny_llama, token_batch

from adalora_core.bridge import attach
from adalora_core.floor.errors import TargetError

TARGETS = ["q_proj", "up_proj"]
CPU = torch.device("cpu")
BATCH = token_batch(0)

# What transformers says of every offloaded model that it saves.
pytestmark = pytest.mark.filterwarnings("ignore:Attempting to save a model with offloaded modules")


def on_disk_in_part(model: Any, folder: Path) -> Any:
    places = dict.fromkeys(["model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"])
    device_map = dict.fromkeys([*places, "model.layers.0"], "cpu") | {"model.layers.1": "disk"}
    return dispatch_model(model, device_map, offload_dir=str(folder), force_hooks=True)


def on_disk(model: Any, folder: Path) -> Any:
    return disk_offload(model, str(folder), execution_device=CPU)


def on_the_cpu(model: Any, _folder: Path) -> Any:
    return cpu_offload(model, execution_device=CPU)


WAYS = [on_disk_in_part, on_disk, on_the_cpu]


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model.eval()(**BATCH).logits


def adapted(door: str, base: Any, **changes: Any) -> Any:
    torch.manual_seed(3)
    return make(door, base, target_modules=TARGETS, init_lora_weights=False, **changes)


def trained(model: Any) -> torch.Tensor:
    """Return the logits after three steps."""
    optimizer = optimizer_of(model)
    model.train()
    for step in range(3):
        model(**token_batch(step)).loss.backward()
        end_step(model, optimizer, step)
    return logits(model)


def factors(model: Any) -> list[torch.Tensor]:
    return [each for name, each in model.named_parameters() if ".lora_" in name]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("door", ["import"], indirect=True)
class TestNewAdapters:
    def test_they_train_merge_and_unmerge_as_in_memory(
        self, door: str, way: Any, tmp_path: Path
    ) -> None:
        expected = trained(adapted(door, tiny_llama()))
        model = adapted(door, way(tiny_llama(), tmp_path))
        assert {each.device for each in factors(model)} == {CPU}
        torch.testing.assert_close(trained(model), expected, atol=1e-5, rtol=1e-5)
        model.base_model.finalize()
        expected = logits(model)
        for _ in range(2):
            model.merge_adapter()
            torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)
            model.unmerge_adapter()
            torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(logits(model.merge_and_unload()), expected, atol=1e-4, rtol=1e-4)

    def test_the_unloaded_model_has_its_weights(self, door: str, way: Any, tmp_path: Path) -> None:
        model = adapted(door, way(tiny_llama(), tmp_path))
        torch.testing.assert_close(logits(model.unload()), logits(tiny_llama()))


@pytest.mark.parametrize(
    ("door", "way"),
    [*(("import", way) for way in WAYS), ("attach", on_disk_in_part)],
    indirect=["door"],
)
def test_a_loaded_adapter_computes_and_merges_as_in_memory(
    door: str, way: Any, tmp_path: Path
) -> None:
    saved = adapted("peft", tiny_llama())
    saved.save_pretrained(tmp_path / "adapter")
    base = way(tiny_llama(), tmp_path / "weights")
    again = str(tmp_path / "again")
    model = LOADERS[door].from_pretrained(base, tmp_path / "adapter", offload_folder=again)
    torch.testing.assert_close(logits(model), logits(saved), atol=1e-5, rtol=1e-5)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), logits(saved), atol=1e-5, rtol=1e-5)
    if way is on_disk_in_part:  # transformers saves no other
        merged.save_pretrained(tmp_path / "merged")
        again = type(merged).from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(logits(again), logits(saved), atol=1e-5, rtol=1e-5)


def test_our_own_api_names_the_door_that_serves_it(tmp_path: Path) -> None:
    base = on_disk(tiny_llama(), tmp_path)
    with pytest.raises(TargetError, match=r"accelerate offloads .* adalora_core\.peft"):
        adapted("adalora_core", base)
    assert not any("lora" in name for name, _ in base.named_parameters())


def test_attach_refuses_factors_that_have_lost_their_values(tmp_path: Path) -> None:
    model = adapted("peft", on_disk(tiny_llama(), tmp_path))
    with pytest.raises(ValueError, match="meta device"):
        attach(model)
