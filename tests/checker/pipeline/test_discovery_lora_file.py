"""The command judges the tensors beside the configuration of a saved LoRA, where there are any."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from header_files import entries_of, write_header

from adalora_core.checker.check import check_config
from adalora_core.commands.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    Capture = pytest.CaptureFixture[str]

PREFIX = "base_model.model."
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q", "v"]}
SHAPES = {f"{path}.lora_{factor}.weight": shape for path in ("0.q", "0.v")
          for factor, shape in (("A", (2, 4)), ("B", (4, 2)))}  # fmt: skip


def write(folder: Path, shapes: dict[str, tuple[int, ...]], value: bytes = b"\0\0\x80\x3f") -> Path:
    """Write an adapter whose numbers are all the same, 1 if nothing else is said."""
    header, size = entries_of({PREFIX + name: ("F32", [*each]) for name, each in shapes.items()})
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    path = write_header(folder / "adapter_model.safetensors", header)
    path.write_bytes(path.read_bytes() + value * (size // 4))
    return folder


def checked(path: Path, capsys: Capture) -> tuple[int, list[tuple[str, str, str]]]:
    code = main(["check", str(path), "-o", "json"])
    reports = json.loads(capsys.readouterr().out)["reports"]
    found = [each for report in reports for each in report["diagnostics"]]
    return code, [(each["code"], each["severity"], each["message"]) for each in found]


CASES: dict[str, tuple[dict[str, Any], bytes, list[tuple[str, str, str]]]] = {
    "right": ({}, b"\0\0\x80\x3f", []),
    "all zero": ({}, b"\0\0\0\x80",
                 [("ADA826", "warning", "the adapter changes nothing: lora_A.weight and lora_B.")]),
    "one empty": ({"0.v.lora_B.weight": (4, 0), "0.v.lora_A.weight": (0, 4)}, b"\0\0\x80\x3f",
                  [("ADA825", "error", "'0.v' has tensors of rank 0"),
                   ("ADA826", "info", "'0.v' changes nothing: lora_A.weight and lora_B")]),
    "not finite": ({}, b"\0\0\xc0\x7f",
                   [("ADA819", "error", f"the tensor '{PREFIX}0.q.lora_A.weight' holds")]),
    "half a pair": ({"0.q.lora_B.weight": None}, b"\0\0\x80\x3f",
                    [("ADA825", "error", f"the tensor '{PREFIX}0.q.lora_B.weight' is missing")]),
    "another rank": ({"0.v.lora_A.weight": (3, 4), "0.v.lora_B.weight": (4, 3)}, b"\0\0\x80\x3f",
                     [("ADA825", "error", "'0.v' has tensors of rank 3, and the configuration")]),
    "left over": ({"0.k.lora_A.weight": (2, 4), "0.k.lora_B.weight": (4, 2)}, b"\0\0\x80\x3f",
                  [("ADA825", "error", "the tensors of '0.k' fit no module: target_modules")]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_folder_and_named_file_have_the_findings_of_the_tensors(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    more, value, expected = CASES[name]
    shapes = {key: each for key, each in (SHAPES | more).items() if each is not None}
    folder = write(tmp_path / "adapter", shapes, value)
    for path in (folder, folder / "adapter_config.json", tmp_path):
        code, found = checked(path, capsys)
        assert code == int(any(each == "error" for _, each, _ in expected))
        assert [each[:2] for each in found] == [each[:2] for each in expected]
        assert all(one[2].startswith(two[2]) for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["none", "a pointer", "pickled", "a link out", "another name"])
def test_nothing_is_said_where_tensors_are_absent_or_not_opened(
    name: str, tmp_path: Path, capsys: Capture
) -> None:
    folder = write(tmp_path / "adapter", SHAPES, b"\0\0\0\0")
    weights, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if name == "a pointer":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    elif name == "pickled":
        weights.rename(folder / "adapter_model.bin")
    elif name == "a link out":
        weights.rename(tmp_path / "weights")
        weights.symlink_to(tmp_path / "weights")
    elif name == "another name":
        config = config.rename(folder / "lora.json")
    else:
        weights.unlink()
    assert checked(config, capsys) == (0, [])


def test_damaged_tensors_and_those_in_parts_are_errors(tmp_path: Path, capsys: Capture) -> None:
    folder = write(tmp_path / "adapter", SHAPES)
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(b"12345678")
    assert [each[:2] for each in checked(folder, capsys)[1]] == [("ADA825", "error")]
    weights.rename(folder / "adapter_model-00001-of-00002.safetensors")
    _, ((_, _, message),) = checked(folder, capsys)
    assert "in parts, which PEFT does not load" in message


def test_functions_judge_the_tensors_of_a_saved_lora_as_the_command_does(tmp_path: Path) -> None:
    folder = write(tmp_path / "adapter", SHAPES, b"\0\0\0\0")
    report = check_config(folder / "adapter_config.json")
    assert [each.code for each in report.diagnostics] == ["ADA826"]


def test_expression_that_may_take_long_is_a_note(tmp_path: Path, capsys: Capture) -> None:
    config = write(tmp_path / "saved", SHAPES) / "adapter_config.json"
    config.write_text(json.dumps(CONFIG | {"target_modules": r"(?:\w+\.)+[qv]"}))
    (note,) = (each for each in checked(config, capsys)[1] if each[0] == "ADA825")
    assert note[1] == "info"
    assert "it may take long; repeat less in it" in note[2]
