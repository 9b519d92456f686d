"""A shrunk adapter changes a model as the best one of its ranks does, when PEFT loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_adapters import CASES, changes, save
from safetensors.torch import load_file

from adalora_core.training.lora_export import LoraModule
from adalora_core.training.shrinking import TrainedAdapter, read_trained, shrink

FAST = ("patterns", "convolutions", "adalora", "classifier")
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
LIMITS: list[dict[str, Any]] = [
    *({"budget": share} for share in (0.75, 0.5, 0.25)),
    {"budget": 0.5, "pad_ranks": True},
    {"rank": 2.5},
    {"rank": 2, "pad_ranks": True},
    {"energy": 0.9},
]


def matrix(change: np.ndarray) -> np.ndarray:
    return change.reshape(len(change), -1)


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[] if each in FAST else pytest.mark.slow) for each in CASES]
)
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
def test_peft_loads_the_best_change_of_each_rank(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    save(case, tmp_path / "adapter")
    expected, source = changes(case, tmp_path / "adapter")
    parts = {path: np.linalg.svd(matrix(each), False) for path, each in expected.items()}
    adapter = read_trained(tmp_path / "adapter")
    assert adapter.modules.keys() == expected.keys()
    fixed = adapter.file(dict.fromkeys(expected, 0)).size
    for number, limit in enumerate(LIMITS):
        out = tmp_path / f"out{number}"
        given = dict(limit)
        if "budget" in given:
            given["budget"] = fixed + int((adapter.bytes - fixed) * given["budget"])
        shrunk = shrink(adapter, **given)
        shrunk.write(out)
        written = (out / "adapter_model.safetensors").stat().st_size
        assert written == shrunk.file.size <= given.get("budget", adapter.bytes)
        found, model = changes(case, out)
        assert found.keys() == {path for path, rank in shrunk.ranks.items() if rank}
        kept_all = whole_all = 0.0
        for path, rank in shrunk.ranks.items():
            U, values, V = parts[path]
            best = U[:, :rank] * values[:rank] @ V[:rank]
            near = matrix(found[path]) if path in found else np.zeros_like(best)
            distance = np.linalg.norm(near - best)
            assert distance <= TOLERANCES[case.dtype] * np.linalg.norm(values), path
            kept, whole = (values[:rank] ** 2).sum(), (values**2).sum()
            assert shrunk.energy(path) == pytest.approx(kept / whole if whole else 1, abs=1e-6)
            kept_all, whole_all = kept_all + kept, whole_all + whole
            if "energy" in limit:
                assert rank <= 1 or (values[: rank - 1] ** 2).sum() < 0.9 * whole <= kept * 1.000001
        assert shrunk.energy() == pytest.approx(kept_all / whole_all, abs=1e-6)
        ranks = shrunk.ranks.values()
        if "rank" in limit:
            available = sum(map(len, adapter.squares.values()))
            assert sum(ranks) == min(int(limit["rank"] * len(ranks)), available)
        sizes = {
            len(each)
            for key, each in load_file(out / "adapter_model.safetensors").items()
            if ".lora_A." in key or "embedding_A" in key
        }
        if limit.get("pad_ranks"):
            assert sizes == {max(ranks)}
        assert_same_beside(source, model)


def assert_same_beside(source: Any, found: Any) -> None:
    """What is no factor is the same in both models."""

    def rest(model: Any) -> dict[str, torch.Tensor]:
        return {
            name.replace(".base_layer.", "."): each
            for name, each in model.state_dict().items()
            if "lora_" not in name
        }

    one, other = rest(source), rest(found)
    names = {name for name in one if "original_module" not in name and "ranknum" not in name}
    assert names <= other.keys() | {name for name in names if "quant" in name}
    for name in names:
        torch.testing.assert_close(other[name], one[name])


def test_a_budget_goes_to_the_most_energy_per_byte_and_pays_a_header_once(tmp_path: Path) -> None:
    def module(name: str, width: int, height: int) -> LoraModule:
        return LoraModule(
            (f"{name}.A", f"{name}.B"), torch.zeros(3, width), torch.zeros(height, 3), 1.0, 1.0
        )

    # A triplet of wide takes 400 bytes, of small 100.
    modules = {"wide": module("wide", 60, 40), "small": module("small", 20, 5)}
    squares = {"wide": torch.tensor([9.0, 7.0, 0.5]), "small": torch.tensor([8.0, 2.0, 1.0])}
    adapter = TrainedAdapter(tmp_path, modules, squares, {}, {}, 0)

    def sized(wide: int, small: int) -> int:
        return (
            adapter.file({"wide": wide, "small": small}).size + 24
        )  # numbers in the header get shorter

    # The ratios are 0.08, 0.0225, 0.02, 0.0175, 0.01, 0.00125.
    for ranks in ((0, 1), (0, 2), (1, 2), (2, 2), (2, 3), (3, 3)):
        found = shrink(adapter, budget=sized(*ranks))
        assert (found.ranks["wide"], found.ranks["small"]) == ranks
    # One more byte for a triplet that does not fit changes nothing, and a cheaper one fits.
    assert shrink(adapter, budget=sized(2, 2) - 40).ranks == {"wide": 1, "small": 3}
