"""The ranks that were found, as settings of plain LoRA: PEFT gives every module its rank."""

from __future__ import annotations

import json
import warnings
from typing import Any

import peft
import pytest
import torch
import yaml
from peft.tuners.lora import LoraLayer
from torch import nn

from adalora_core.commands.rank_report import report
from adalora_core.commands.rank_report.report import ranks_of
from adalora_core.config.model import AdaLoraConfig

INIT_R = 6
RANKS = {"a.q": 6, "a.v": 3, "b.a.q": 0, "b.a.v": 1, "head": 2}
"""Names of which some end in others, and one module at rank 0."""


def base() -> nn.Module:
    model = nn.Module()
    for path in RANKS:
        *parents, name = path.split(".")
        at = model
        for parent in parents:
            if not hasattr(at, parent):
                at.add_module(parent, nn.Module())
            at = getattr(at, parent)
        at.add_module(name, nn.Linear(8, 8))
    return model


def config(ranks: dict[str, int] = RANKS, **changes: Any) -> AdaLoraConfig:
    pattern = {f"{path}.lora_E": [i < rank for i in range(INIT_R)] for path, rank in ranks.items()}
    fields = {"init_r": INIT_R, "target_r": 2, "lora_alpha": 8, "total_step": 100, "tfinal": 10}
    return AdaLoraConfig(rank_pattern=pattern, **fields | changes)


def lora_settings(of: AdaLoraConfig) -> dict[str, Any]:
    return report.lora_settings(ranks_of(of), of.lora_alpha / of.init_r)


def render_rank_pattern(of: AdaLoraConfig, form: Any) -> str:
    return report.render_rank_pattern(ranks_of(of), of.lora_alpha / of.init_r, form)


def built(settings: dict[str, Any]) -> dict[str, tuple[int, float]]:
    """Return rank and scale of every module that PEFT adapts."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = peft.get_peft_model(base(), peft.LoraConfig(**settings))
    return {
        path.removeprefix("base_model.model."): (layer.r["default"], layer.scaling["default"])
        for path, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
    }


def test_peft_gives_every_module_its_rank_and_the_scale_of_the_run() -> None:
    settings = json.loads(render_rank_pattern(config(), "peft"))
    scale = pytest.approx(8 / INIT_R, rel=1e-5)
    assert built(settings) == {path: (rank, scale) for path, rank in RANKS.items() if rank}


def test_names_are_a_list_where_none_ends_in_another() -> None:
    ranks = RANKS | {"b.a.q": 4}
    settings = lora_settings(config(ranks))
    assert settings["target_modules"] == sorted(ranks)
    assert {path: rank for path, (rank, _) in built(settings).items()} == ranks


def test_whole_alphas_are_integers() -> None:
    settings = lora_settings(config(lora_alpha=12))
    assert (settings["r"], settings["lora_alpha"]) == (6, 12)
    assert sorted(settings["alpha_pattern"].values()) == [2, 4, 6, 12]
    assert all(isinstance(alpha, int) for alpha in settings["alpha_pattern"].values())


def test_axolotl_gets_its_own_keys() -> None:
    text = render_rank_pattern(config(lora_alpha=12), "axolotl")
    assert text.startswith("adapter: lora\nlora_r: 6\n")
    read = yaml.safe_load(text)
    assert (read.pop("adapter"), read.pop("lora_alpha")) == ("lora", 12)
    names = {
        "lora_r": "r",
        "lora_target_modules": "target_modules",
        "lora_rank_pattern": "rank_pattern",
        "lora_alpha_pattern": "alpha_pattern",
    }
    settings = lora_settings(config(lora_alpha=12))
    assert {names[key]: value for key, value in read.items()} == {
        name: settings[name] for name in names.values()
    }


def test_axolotl_gets_whole_alphas_and_the_text_says_what_they_change() -> None:
    text = render_rank_pattern(config(), "axolotl")
    # 8 / 6 times 6, 3, 1 and 2, where axolotl's schema wants positive integers.
    assert [*yaml.safe_load(text)["lora_alpha_pattern"].values()] == [8, 4, 1, 3]
    comment = " ".join(line.removeprefix("# ") for line in text.splitlines()[:2])
    assert "The scale of the run is 1.333 in every module" in comment
    assert "here it is 1 to 1.5 in 2 of 4 modules" in comment


def test_json_names_every_module() -> None:
    assert json.loads(render_rank_pattern(config(), "json")) == RANKS


@pytest.mark.parametrize("form", ["peft", "axolotl", "json"])
def test_hostile_names_are_escaped(form: Any) -> None:
    name = "a\x1b[31m.\u202e"
    text = render_rank_pattern(config({name: 2}), form)
    assert text.isascii()
    assert "\x1b" not in text


def test_names_of_any_characters_are_read_back_from_one_line_each() -> None:
    names = [
        "\n::error::q",
        "1.5",
        "on.q",
        "a: b",
        "a #b",
        "x' \"y\\",
        "\x85\ud800",
        "é.\U0001f600",
    ]
    names += [
        "- q",
        "0x1",
        "q" * 200,
        "a ",
        " a",
        "true",
        "k\u2028",
        "a,b",
        "[a]",
        "?",
        "5:30",
        "",
        "No",
        "_1",
        "ON",
    ]
    settings = lora_settings(config(dict.fromkeys(names, 2), lora_alpha=6))
    text = render_rank_pattern(config(dict.fromkeys(names, 2), lora_alpha=6), "axolotl")
    read = yaml.safe_load(text)
    for key in ("target_modules", "rank_pattern", "alpha_pattern"):
        assert read[f"lora_{key}"] == settings[key]
    assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]


def test_no_rank_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="no triplet is left"):
        lora_settings(config(dict.fromkeys(RANKS, 0)))


def test_the_ranks_of_a_run_train_as_lora() -> None:
    from adalora_core import get_peft_model

    wanted = AdaLoraConfig(
        init_r=INIT_R,
        target_r=2,
        total_step=9,
        tfinal=3,
        target_modules=[*RANKS],
        orth_reg_weight=0,
    )
    torch.manual_seed(0)
    model = get_peft_model(base(), wanted)
    adapter = model.base_model.adapters["default"]
    for each in adapter.allocator.parameters():
        each.grad = torch.randn_like(each)
    adapter.allocator.step(8)
    adapter.sync_pattern()
    written = AdaLoraConfig(**wanted.to_json_dict() | {"rank_pattern": adapter.rank_pattern()})
    found = {path: rank for path, (rank, _) in built(lora_settings(written)).items()}
    assert found == {path: rank for path, rank in adapter.allocator.active_ranks().items() if rank}
    assert sum(found.values()) == 10
