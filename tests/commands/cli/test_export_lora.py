"""Test `adalora export-lora`, and that the commands on adapters name a file that is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adalora_core.commands.cli import main

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch", reason="would have shown what the commands make of tensors")

FOREIGN = {
    "kohya's": ("lora_unet_q.lora_down.weight", "lora_unet_q.lora_up.weight"),
    "diffusers'": ("unet.q.lora_A.weight", "unet.q.lora_B.weight"),
}


@pytest.mark.parametrize("whose", FOREIGN)
@pytest.mark.parametrize("command", ["check", "plan", "report", "export-lora", "shrink"])
def test_a_file_of_another_format_is_named_as_what_it_is(
    command: str, whose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    file, out = tmp_path / "weights.safetensors", tmp_path / "out.safetensors"
    save_file({name: torch.ones(4, 4) for name in FOREIGN[whose]}, file)
    outputs = {"export-lora": [str(out)], "shrink": [str(out), "--rank", "1"]}
    code = main([command, str(file), *outputs.get(command, [])])
    shown = capsys.readouterr()
    if (command, whose) == ("shrink", "kohya's"):
        assert code == 0
        return
    assert code == (1 if command in {"check", "plan"} else 2)
    assert f" of {whose} format" in shown.out + shown.err
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
