"""Four limits of a document hold in every reader: size, depth, values and findings."""

from __future__ import annotations

import json

import pace
import pytest

from adalora_core.checker.check import check_config
from adalora_core.config.rules.base import SOUND
from adalora_core.floor.limits import DEFAULT_LIMITS as LIMITS

SECONDS = 4
"""Of an idle processor: what is not bounded takes many times as much."""


def _config(**changes):
    return json.dumps(SOUND | changes)


def _yaml(lines):
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in SOUND.items()) + lines


def _toml(lines):
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in SOUND.items()) + lines


BEYOND = {
    "file-bytes.json": lambda: _config(revision="x" * (10 * LIMITS.file_bytes)),
    "file-bytes.yaml": lambda: _yaml("#" * (10 * LIMITS.file_bytes)),
    "depth.json": lambda: _config()[:-1] + ', "x": ' + "[" * 640 + "]" * 640 + "}",
    "depth.yaml": lambda: _yaml("x: " + "[" * 640 + "]" * 640 + "\n"),
    "depth.toml": lambda: _toml("x = " + "[" * 640 + "]" * 640 + "\n"),
    "depth-of-a-key.toml": lambda: _toml("a." * 640 + "a = 1\n"),
    "depth-of-a-table.toml": lambda: _toml("[" + "a." * 50_000 + "a]\n"),
    "nodes.json": lambda: _config(x=[0] * (10 * LIMITS.nodes // 2)),
    "nodes.yaml": lambda: _yaml("x: [" + "0," * (10 * LIMITS.nodes // 2) + "]\n"),
    "nodes.toml": lambda: _toml("x = [" + "0," * (10 * LIMITS.nodes // 2) + "]\n"),
    "nodes-of-keys.toml": lambda: _toml("".join(f"k{i}{'.a' * 50} = 1\n" for i in range(30_000))),
    "nodes-of-tables.toml": lambda: _toml("".join(f"[k{i}]\n" for i in range(400_000))),
    "diagnostics.json": lambda: _config(**{f"k{i}": 1 for i in range(10 * LIMITS.diagnostics)}),
    "diagnostics-of-tags.yaml": lambda: _yaml("x:\n" + "- !x 1\n" * 100_000),
    "diagnostics-of-repeated-keys.json": lambda: (
        _config()[:-1] + "".join(f', "k{i}": 1, "k{i}": 2' for i in range(45_000)) + "}"
    ),
    "equal-hashes.yaml": lambda: _yaml(
        "x: {" + ",".join(f"{(2**61 - 1) * i}: 1" for i in range(1, 130_000)) + "}\n"
    ),
    "long-tags.yaml": lambda: f"%TAG !x! tag:{'y' * 300_000}\n---\nx: [{'!x!a 1,' * 150_000}]\n",
}
"""Documents beyond a limit, most of them at ten times its size."""

FAST = {"depth.yaml", "diagnostics.json", "file-bytes.json", "nodes.toml"}
"""One document for each limit; the others are in the slow tier."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=() if each in FAST else pytest.mark.slow) for each in BEYOND],
)
def test_text_beyond_a_limit_is_a_finding_soon(name):
    text = BEYOND[name]()
    with pace.measured() as spent:
        report = check_config(text, format=name.rpartition(".")[2])
    assert spent.seconds < SECONDS
    assert "ADA005" in {each.code for each in report.diagnostics}
    assert len(report.diagnostics) <= LIMITS.diagnostics + 1


def test_dots_of_a_text_are_not_those_of_a_key():
    quoted = "x = '" + "a." * 100 + "' # " + "a." * 100 + '\n"' + "b." * 99 + '" = 1\n'
    report = check_config(_toml(quoted), format="toml")
    assert "ADA005" not in {each.code for each in report.diagnostics}


def test_rank_of_a_matrix_is_bounded():
    torch = pytest.importorskip("torch")
    from adalora_core import AdaLoraConfig, get_peft_model

    # adalora: ignore[ADA307, ADA413] - more than any memory holds
    config = AdaLoraConfig(init_r=2_000_000_000, target_r=8, total_step=1000, target_modules=["0"])
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, device="meta"))
    with pytest.raises(ValueError, match="init_r 2000000000 is above the limit of 1048576"):
        get_peft_model(model, config)
