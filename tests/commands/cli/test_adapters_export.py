"""Test `adalora export-lora`, and that the commands on adapters name a file that is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from adalora_core.commands.cli import main

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch", reason="would have shown what the commands make of tensors")
peft = pytest.importorskip("peft", reason="would have shown that PEFT loads what is written")

FOREIGN = {
    "kohya's": ("lora_unet_q.lora_down.weight", "lora_unet_q.lora_up.weight"),
    "diffusers'": ("unet.q.lora_A.weight", "unet.q.lora_B.weight"),
}


@pytest.mark.parametrize("whose", FOREIGN)
@pytest.mark.parametrize("command", ["check", "plan", "report", "export-lora"])
def test_a_file_of_another_format_is_named_as_what_it_is(
    command: str, whose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    file, out = tmp_path / "weights.safetensors", tmp_path / "out.safetensors"
    save_file({name: torch.ones(4, 4) for name in FOREIGN[whose]}, file)
    code = main([command, str(file), *[str(out)] * (command == "export-lora")])
    shown = capsys.readouterr()
    assert code == (1 if command in {"check", "plan"} else 2)
    assert f" of {whose} format" in shown.out + shown.err
    assert "export the file to PEFT's format first" in shown.out + shown.err
    assert not out.exists()


class Pictures(torch.nn.Sequential):
    """A convolution, one with groups, and a linear layer."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            torch.nn.Conv2d(4, 6, 3, padding=1),
            torch.nn.Conv2d(6, 6, 3, groups=2, padding=1),
            torch.nn.Flatten(2),
            torch.nn.Linear(9, 5),
        )


def trained(folder: Path, **settings: Any) -> Any:
    """Save an own adapter on `Pictures` whose factors are drawn, and return its model."""
    from adalora_core import AdaLoraConfig, get_peft_model

    steps = {"init_r": 4, "target_r": 2, "tinit": 1, "tfinal": 1, "total_step": 9}
    model = get_peft_model(Pictures(), AdaLoraConfig(**steps | settings)).eval()
    for name, each in model.named_parameters():
        if ".lora_" in name:
            torch.nn.init.normal_(each.data)
    model.finalize()
    model.save_pretrained(folder)
    return model


def test_convolutions_of_saved_files_are_loaded_by_peft(tmp_path: Path) -> None:
    model = trained(tmp_path / "adapter", target_modules=["0", "3"])
    place, out = str(tmp_path / "adapter"), tmp_path / "out"
    assert main(["export-lora", place, str(out)]) == 0
    loaded = peft.PeftModel.from_pretrained(Pictures(), out)
    x = torch.randn(2, 4, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), atol=1e-4, rtol=1e-4)


NOT_WRITTEN = {
    "groups": "'1' is a convolution with groups",
    "no head": "no tensor of modules_to_save ['3']",
    "kernels": "do not fit its factors",
    "no kernels": "do not fit its factors",
}


@pytest.mark.parametrize("fault", [*NOT_WRITTEN])
def test_what_peft_cannot_load_is_not_written(
    fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    if fault == "groups":
        trained(weights.parent, target_modules=["0", "1"])
    elif fault == "no head":
        trained(weights.parent, target_modules=["0"], modules_to_save=["3"])
        tensors = load_file(weights)
        save_file({name: each for name, each in tensors.items() if ".3." not in name}, weights)
    else:
        trained(weights.parent, target_modules=["0"])
        kernels = '{"0": [5, -1]}' if fault == "kernels" else "3"
        save_file(load_file(weights), weights, {"lora_kernels": kernels})
    place, out = str(weights.parent), tmp_path / "out"
    assert main(["export-lora", place, str(out)]) == 2
    shown = capsys.readouterr().err
    assert NOT_WRITTEN[fault] in shown
    assert shown.count("export_lora:") <= 1
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "{}", "\n"])
def test_an_empty_configuration_of_an_adapter_is_an_error(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PEFT raises a JSONDecodeError or a KeyError."""
    (tmp_path / "adapter_config.json").write_text(text)
    assert main(["check", str(tmp_path)]) == 1
    assert "ADA006" in (shown := capsys.readouterr().out) or "ADA009" in shown
    assert main(["check", "--ignore-unmatched", str(tmp_path)]) == 0
