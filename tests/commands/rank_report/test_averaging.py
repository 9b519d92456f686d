"""Mean ranks of finished AdaLoRA adapters: what PEFT's LoRA makes of them, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import peft
import pytest
from peft.tuners.lora import LoraLayer
from torch import nn

from adalora_core import average_ranks
from adalora_core.commands.cli import main

if TYPE_CHECKING:
    from pathlib import Path

RANKS = [{"q": 4, "v": 0, "a.v": 1}, {"q": 3, "v": 1, "a.v": 2}, {"q": 4, "v": 0, "a.v": 2}]
SETTINGS = {"peft_type": "ADALORA", "init_r": 4, "target_r": 2, "lora_alpha": 8, "tinit": 1}
SETTINGS |= {"tfinal": 2, "total_step": 9, "target_modules": ["q", "v"]}


def saved(folder: Path, ranks: dict[str, int], **changes: Any) -> str:
    pattern = {f"{path}.lora_E": [row < rank for row in range(4)] for path, rank in ranks.items()}
    folder.mkdir()
    text = json.dumps(SETTINGS | {"rank_pattern": pattern} | changes)
    (folder / "adapter_config.json").write_text(text)
    return str(folder)


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [saved(tmp_path / f"seed{seed}", ranks) for seed, ranks in enumerate(RANKS)]


def base() -> nn.Module:
    inner = nn.ModuleDict({"v": nn.Linear(8, 8)})
    return nn.ModuleDict({"q": nn.Linear(8, 8), "v": nn.Linear(8, 8), "a": inner})


def test_peft_gives_each_module_its_mean_rank_and_the_scale_of_the_runs(folders: list[str]) -> None:
    model = peft.get_peft_model(base(), peft.LoraConfig(**average_ranks(folders)))
    layers = {
        path.removeprefix("base_model.model."): (each.r["default"], each.scaling["default"])
        for path, each in model.named_modules()
        if isinstance(each, LoraLayer)
    }
    # 11/3 and 5/3; the mean of `v`, 1/3, is no rank, and "v" is no name for "a.v" alone.
    assert layers == {"q": (4, 2.0), "a.v": (2, 2.0)}


def test_command_prints_what_the_function_returns(
    folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *folders, "--rank-pattern", "peft"]) == 0
    assert json.loads(capsys.readouterr().out) == average_ranks(folders)
    assert main(["report", *folders, "--rank-pattern", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"a.v": 2, "q": 4, "v": 0}


def test_what_cannot_be_averaged_is_one_sentence(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = dict.fromkeys(RANKS[0], 4)
    refused = {
        saved(tmp_path / "unfinished", full): "an unfinished run, 12 of 12 triplets, target 6",
        saved(tmp_path / "other", {"k": 1}): "'a.v' is in one of them alone",
        saved(tmp_path / "scaled", RANKS[0], lora_alpha=4): "got 1; average runs with one scale",
        saved(tmp_path / "begun", {}, rank_pattern=None): "there was no allocation",
        str(tmp_path / "missing"): "holds no adapter_config.json",
    }
    for folder, message in refused.items():
        assert main(["report", *folders, folder, "--rank-pattern", "peft"]) == 2
        shown = capsys.readouterr()
        assert message in shown.err
        assert (shown.err.count("\n"), shown.out) == (1, "")
    with pytest.raises(ValueError, match="at least one folder"):
        average_ranks([])
    with pytest.raises(SystemExit):
        main(["report", *folders])
    assert "several adapters need --rank-pattern" in capsys.readouterr().err
