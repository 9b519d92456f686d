"""The report on a LoRA says of each module what PEFT says, or why it cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import peft
import pytest
from lora_adapters import CASES, Case, base_of, changes, save
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM

from adalora_core.commands.cli import main
from adalora_core.commands.rank_report import report

if TYPE_CHECKING:
    from pathlib import Path

FAST = ("patterns", "embedding", "classifier", "convolutions", "rslora")
NAMES = [name for name, case in CASES.items() if case.kind is peft.LoraConfig]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Capture = pytest.CaptureFixture[str]


def printed(folder: Path, capsys: Capture) -> list[dict[str, Any]]:
    assert main(["report", str(folder), "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["adapter"]) == (1, str(folder))
    assert {each.name for each in folder.iterdir()} <= {WEIGHTS, CONFIG, "README.md"}
    modules: list[dict[str, Any]] = found["modules"]
    return modules


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[] if each in FAST else pytest.mark.slow) for each in NAMES]
)
def test_numbers_are_those_of_peft(name: str, tmp_path: Path, capsys: Capture) -> None:
    case = CASES[name]
    save(case, tmp_path)
    deltas, model = changes(case, tmp_path)
    layers = dict(model.base_model.model.named_modules())
    modules = printed(tmp_path, capsys)
    assert {each["module"] for each in modules} == deltas.keys()
    for each in modules:
        path = each["module"]
        assert each["rank"] == layers[path].r["default"]
        assert each["scale"] == pytest.approx(layers[path].scaling["default"])
        assert each["moved"]


def _experts() -> nn.Module:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
    return MixtralForCausalLM(MixtralConfig(**sizes | heads))


EXPERTS: dict[str, dict[str, Any]] = {
    "both": {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    "two ranks": {
        "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
        "rank_pattern": {"experts.gate_up_proj": 8},
        "alpha_pattern": {"experts.gate_up_proj": 2},
    },
    "one": {
        "target_parameters": ["mlp.experts.gate_up_proj"],
        "rank_pattern": {"experts.gate_up_proj": 8},
    },
    "converted by PEFT": {"target_modules": ["w1", "w3", "q_proj"]},
}


@pytest.mark.parametrize("name", EXPERTS)
@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys did not match")  # they do
def test_stacked_experts_have_the_rank_of_their_parameter(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    case = Case(_experts, {"r": 4, "target_modules": ["q_proj"]} | EXPERTS[name])
    save(case, tmp_path)
    found = {each["module"]: (each["rank"], each["scale"]) for each in printed(tmp_path, capsys)}
    model = peft.PeftModel.from_pretrained(base_of(case), tmp_path).base_model.model
    expected = {}
    for path in found:
        layer = model.get_submodule(path)
        expected[path] = layer.r["default"], layer.scaling["default"]
    assert found == expected
    assert len({*found.values()}) == (1 if name == "both" else 2)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter of which one module did not move."""
    folder = tmp_path / "adapter"
    settings = {"r": 4, "target_modules": ["0", "1"], "rank_pattern": {"1": 2}}
    save(Case(lambda: nn.Sequential(nn.Linear(9, 8), nn.Linear(8, 7)), settings), folder)
    tensors = load_file(folder / WEIGHTS)
    tensors["base_model.model.1.lora_B.weight"].zero_()
    save_file(tensors, folder / WEIGHTS)
    return folder


def test_files_show_the_ranks_and_what_did_not_move(
    adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        report, "rank_heatmap", lambda ranks, **more: drawn.append((ranks, more)) or b"1"
    )
    assert main(["report", str(adapter), "--output", str(adapter.parent / "out")]) == 0
    shown = capsys.readouterr().out
    assert shown.count("wrote ") == 2
    title = "Rank of each matrix: adapter"
    assert drawn == [({"0": 4, "1": 2}, {"init_r": 4, "title": title})]
    text = (adapter.parent / "out" / "rank_report.md").read_text()
    assert text.startswith("# Ranks of adapter\n\n![rank of each matrix](rank_heatmap.png)")
    assert "2 modules of rank 2 to 4, mean 3.00; scale 2 to 4." in text
    assert "| `0` | 4 | 2 |\n| `1` | 2 | 4 |\n" in text
    assert "\n1 of 2 modules did not move, so it changes nothing." in text
    tensors = load_file(adapter / WEIGHTS)
    save_file({name: 0 * each for name, each in tensors.items()}, adapter / WEIGHTS)
    assert main(["report", str(adapter)]) == 0
    assert "\nNo module moved: the adapter changes nothing.\n" in capsys.readouterr().out


def _drop(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["base_model.model.0.lora_A.weight"]
    save_file(tensors, folder / WEIGHTS)


BAD: dict[str, tuple[Any, list[str], str]] = {
    "half a pair": (_drop, [], "the tensor 'base_model.model.0.lora_A.weight' is missing"),
    "another rank": (None, [], "has tensors of rank 4, and the configuration gives rank 8"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), [], "No such file"),
    "damaged": (lambda folder: (folder / WEIGHTS).write_bytes(b"1"), [], "not a safetensors file"),
    "no factors": (lambda folder: save_file({}, folder / WEIGHTS), [], "holds no factors of any"),
    "pickled": (lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"), [],
                "adapter_model.bin is a pickle, which is not opened"),
    "settings": (lambda folder: folder, ["--rank-pattern", "peft"], "-o json prints them"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(
    name: str, adapter: Path, capsys: Capture
) -> None:
    spoil, more, message = BAD[name]
    if spoil is None:
        config = json.loads((adapter / CONFIG).read_text())
        (adapter / CONFIG).write_text(json.dumps(config | {"r": 8}))
    else:
        spoil(adapter)
    before = {each.name for each in adapter.iterdir()}
    assert main(["report", str(adapter), *more]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not shown.out
    assert {each.name for each in adapter.iterdir()} == before
