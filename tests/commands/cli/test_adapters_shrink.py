"""Test `adalora shrink`: what it prints and draws, and that bad input writes nothing."""

from __future__ import annotations

import json
import sys
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from adalora_core.commands.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

torch = pytest.importorskip("torch", reason="would have shown that an adapter is cut")
peft = pytest.importorskip("peft", reason="would have shown that an adapter of PEFT is cut")

PREFIX = "base_model.model."
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def write(folder: Path, base: Any = None, config: Any = None, **settings: Any) -> Path:
    """Save an adapter of PEFT whose B is not 0."""
    torch.manual_seed(0)
    base = base or torch.nn.Sequential(torch.nn.Linear(24, 16), torch.nn.Linear(16, 20))
    config = config or peft.LoraConfig(**{"r": 8, "target_modules": ["0", "1"]} | settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base, config)
        for name, each in model.named_parameters():
            if "lora_B" in name:
                each.data.normal_()
        model.save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return write(tmp_path / "adapter")


def edit(folder: Path, change: Callable[[Any], Any]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS)
    tensors = {name: each.clone() for name, each in tensors.items()}
    save_file(change(tensors) or tensors, folder / WEIGHTS)


def configure(**changes: Any) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        values = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(values | changes))

    return change


def tensor(change: Callable[[Any], Any], name: str = "0.lora_A.weight") -> Callable[[Path], object]:
    return lambda folder: edit(folder, lambda tensors: [change(tensors[PREFIX + name]), None][1])


def added(name: str, size: int = 2) -> Callable[[Path], object]:
    return lambda folder: edit(folder, lambda all_: {**all_, name: torch.ones(size, size)})


def link(folder: Path) -> None:
    (folder / CONFIG).rename(folder.parent / "elsewhere.json")
    (folder / CONFIG).symlink_to(folder.parent / "elsewhere.json")


def attention(folder: Path) -> None:
    base = torch.nn.Sequential(torch.nn.MultiheadAttention(16, 2))
    write(folder, base, target_modules=["0"])


def groups(folder: Path) -> None:
    write(folder, torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, groups=2)), target_modules=["0"])


HALF = torch.finfo(torch.float16).max
BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "DoRA": (lambda folder: write(folder, use_dora=True), "use_dora in its configuration is set"),
    "biases of B": (lambda folder: write(folder, lora_bias=True), "lora_bias in its configuration"),
    "a newer setting": (configure(use_next=1), "use_next in its configuration is set"),
    "PiSSA": (configure(init_lora_weights="pissa"), "init_lora_weights changes the base model"),
    "another method": (configure(peft_type="IA3"), "peft_type is neither LORA nor ADALORA"),
    "attention of torch": (attention, "'0.base_layer.out_proj' is inside another adapted module"),
    "groups": (groups, "'0' has factors of shapes [8, 8, 3, 3] and [8, 4, 1, 1], which do not"),
    "fresh": (tensor(lambda each: each.zero_()) , ""),
    "not finite": (tensor(lambda each: each.fill_(torch.nan)), "'0' has factors with entries that"),
    "no rank": (configure(r=None), "'0' gets no r from the configuration"),
    "rank of another file": (configure(r=4), "has tensors of rank 8, and the configuration gives"),
    "rank of a pattern": (configure(rank_pattern={"1": 2}), "gives rank 2 and alpha 8"),
    "alpha": (configure(lora_alpha="NaN"), "gets no lora_alpha from the configuration"),
    "no expression": (configure(alpha_pattern={"(": 2}), "gets no lora_alpha from the config"),
    "no mapping": (configure(alpha_pattern=["0"]), "gets no lora_alpha from the configuration"),
    "a magnitude": (added(f"{PREFIX}0.lora_magnitude_vector"), "0.lora_magnitude_vector' is not"),
    "one factor": (added(f"{PREFIX}2.lora_A.weight"), "'2' lacks a factor"),
    "no factors": (lambda folder: edit(folder, lambda _: {f"{PREFIX}2.weight": torch.ones(2)}),
                   "the file holds no factors of any module"),
    "foreign names": (added("lora.weight"), "unexpected tensor 'lora.weight'"),
    "evil names": (added(f"{PREFIX}\x1b[2J\n.lora_A.weight"), r"'\x1b[2J\n.lora_A.weight' is not"),
    "cut short": (lambda folder: (folder / WEIGHTS).write_bytes(b"12"), "not a whole safetensors"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "holds neither adapter_model.safe"),
    "no configuration": (lambda folder: (folder / CONFIG).unlink(), "holds no adapter_config.json"),
    "no JSON": (lambda folder: (folder / CONFIG).write_text("{"), "config.json': Expecting"),
    "large factors": (
        lambda folder: edit(folder, lambda all_: {
            name: each.double() * (1e308 if name.endswith("A.weight") else 1.0)
            for name, each in all_.items()
        }),
        "has numbers of 1e+140 or more",
    ),
    "a large alpha": (configure(lora_alpha=1e308), "has numbers of 1e+140 or more"),
    "a long alpha": (configure(lora_alpha=10**400), "gets no lora_alpha from the configuration"),
    "a link out": (link, "a link out of its folder is not followed; replace the link by the file"),
    "a module that PEFT ignores": (configure(target_modules=["0"]), "'1' fit no module: target_m"),
    "no head": (configure(modules_to_save=["2"]), "no tensor of modules_to_save ['2']"),
    "a text as rank": (configure(r="8"), "'0' gets no r from the configuration"),
    "AdaLoRA": (configure(peft_type="ADALORA"), "holds no factors of any module"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(
    name: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, message = BAD[name]
    spoil(adapter)
    if name == "fresh":
        tensor(lambda each: each.zero_(), "1.lora_B.weight")(adapter)
        message = "it changes nothing"
    out = adapter.parent / "out"
    assert main(["shrink", str(adapter), str(out), "--rank", "2"]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert "\x1b" not in shown.err
    assert not shown.out
    assert not out.exists()


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (["--budget", "300"], "without any the file has 40 bytes"),
        (["--budget", "300B", "--pad-ranks"], "the limit leaves no singular value"),
        (["--rank", "0"], "a mean rank is above 0, got 0"),
        (["--rank", "-1"], "a mean rank is above 0, got -1"),
        (["--rank", "nan"], "a mean rank is above 0, got nan"),
        (["--energy", "1.1"], "an energy is above 0 and at most 1, got 1.1"),
        (["--energy", "0"], "an energy is above 0 and at most 1, got 0"),
        (["--energy", "110%"], "an energy is above 0 and at most 1, got 1.1"),
    ],
)
def test_a_limit_that_leaves_nothing_is_refused(
    limit: list[str], message: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["shrink", str(adapter), str(adapter.parent / "out"), *limit]) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("shrink:") == 1
    assert not (adapter.parent / "out").exists()


@pytest.mark.parametrize("limit", [["--budget", "20 apples"], ["--rank", "x"], [],
                                   ["--budget", "9%B"], ["--energy", "x%"],
                                   ["--rank", "2", "--energy", "1"],
                                  ])  # fmt: skip
def test_wrong_usage_exits_2(limit: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["shrink", "adapter", "out", *limit])
    assert caught.value.code == 2
    assert "adalora shrink: error: " in capsys.readouterr().err


def test_factors_beyond_the_range_of_their_dtype_write_nothing(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(adapter, lambda all_: {name: each.half().fill_(HALF) for name, each in all_.items()})
    configure(lora_alpha=1e9)(adapter)
    assert main(["shrink", str(adapter), str(adapter.parent / "out"), "--rank", "1"]) == 2
    assert "'0' is beyond the range of torch.float16" in capsys.readouterr().err
    assert [each.name for each in adapter.parent.iterdir()] == ["adapter"]


def test_an_adapter_in_the_output_is_replaced_only_when_asked(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = adapter.parent / "out"
    call = ["shrink", str(adapter), str(out), "--budget", "1.5kB"]
    assert main(call) == 0
    before = (out / CONFIG).stat().st_mtime_ns
    assert main(call) == 2
    assert "replace that one with --overwrite" in capsys.readouterr().err
    assert (out / CONFIG).stat().st_mtime_ns == before
    assert main([*call, "--overwrite"]) == 0
    assert main(["shrink", str(out), str(adapter.parent / "again"), "--rank", "1"]) == 0
    assert main(["shrink", str(out), str(out), "--rank", "1", "--overwrite"]) == 2
    assert "would replace the adapter that is read" in capsys.readouterr().err


def test_text_and_json_report_ranks_energies_errors_and_bytes(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = adapter.parent / "out"
    assert main(["shrink", str(adapter), str(out), "--rank", "3", "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["out"]) == (1, str(out))
    assert found["bytes_before"] == (adapter / WEIGHTS).stat().st_size
    assert found["bytes"] == (out / WEIGHTS).stat().st_size
    assert sum(each["rank"] for each in found["modules"]) == 6
    assert {each["module"]: each["rank_before"] for each in found["modules"]} == {"0": 8, "1": 8}
    assert all(each["error"] ** 2 + each["energy"] == pytest.approx(1) for each in found["modules"])
    assert found["largest_error"] == max(each["error"] for each in found["modules"])
    assert main(["shrink", str(adapter), str(out), "--rank", "3", "--overwrite"]) == 0
    text = capsys.readouterr().out
    first = found["modules"][0]
    assert f"0  {'8 -> ' + str(first['rank']):>12}" in text.replace("module", "")
    assert f"bytes: {found['bytes_before']:,} -> {found['bytes']:,}\n" in text
    assert f"energy kept: {found['energy']:.1%}\nlargest error of a kept module, relative" in text
    assert "may differ from module to module now.\nEvery scale is 1; the former one is in" in text
    assert "mean rank: 3.00\ndropped: 0 of 2 modules\n" in text
    assert text.endswith("An adapter that is trained at this size may be better.\n")


def test_a_dropped_module_is_called_so(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(adapter, lambda all_: [all_[PREFIX + "1.lora_B.weight"].mul_(1e-3), None][1])
    out = adapter.parent / "out"
    assert main(["shrink", str(adapter), str(out), "--rank", "2"]) == 0
    text = capsys.readouterr().out
    assert "1  8 -> dropped    0.0%  1.000\n" in text
    assert "mean rank: 2.00\ndropped: 1 of 2 modules\n" in text
    error = next(line for line in text.splitlines() if line.startswith("0 ")).split()[-1]
    assert f"largest error of a kept module, relative to its change: {error}\n" in text


def test_an_energy_may_be_a_percentage(adapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for number, energy in enumerate(("0.8", "80%")):
        out = adapter.parent / f"out{number}"
        assert main(["shrink", str(adapter), str(out), "--energy", energy, "-o", "json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["modules"])
    assert found[0] == found[1]


def test_a_budget_in_percent_is_a_part_of_the_present_bytes(
    adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for number, amount in enumerate(("50%", str((adapter / WEIGHTS).stat().st_size // 2))):
        out = adapter.parent / f"out{number}"
        assert main(["shrink", str(adapter), str(out), "--budget", amount, "-o", "json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["modules"] == found[1]["modules"]
    assert 0.3 < found[0]["bytes"] / found[0]["bytes_before"] <= 0.5
    assert main(["shrink", str(adapter), str(adapter.parent / "none"), "--budget", "0%"]) == 2
    with pytest.raises(SystemExit):
        main(["shrink", "--help"])
    assert "at most 20 MB, or 50%" in capsys.readouterr().out


def test_without_torch_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "adalora_core.training.shrinking", None)
    assert main(["shrink", "adapter", "out", "--rank", "1"]) == 2
    assert "pip install '.[torch]'" in capsys.readouterr().err


def test_report_of_large_factors_leaves_norms_out(adapter, capsys):
    BAD["a large alpha"][0](adapter)
    assert main(["report", str(adapter), "-o", "json"]) == 0
    assert "left norms out" in capsys.readouterr().err
