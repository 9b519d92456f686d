"""Files for a training by a trainer's own command, and what the saved adapter shows."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from programs import output_of_python
from safetensors.torch import load_file
from toy_models import tiny_llama
from walkthroughs import DOCS, blocks_of
from word_tokenizer import words

if TYPE_CHECKING:
    import torch

STEPS = 12
MATRICES = 4
FIELDS = {
    "init_r": 4, "target_r": 2, "tinit": 2, "tfinal": 3, "lora_alpha": 8,
    "target_modules": ["q_proj", "v_proj"],
}  # fmt: skip
OFFLINE = {
    "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
    "AXOLOTL_DO_NOT_TRACK": "1", "MODELSCOPE_OFFLINE": "1",
}  # fmt: skip
TEMPLATE = (
    "{% for each in messages %}{{ each['role'] }} {{ each['content'] }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


def needs(tool: str) -> pytest.MarkDecorator:
    """Skip a test where a tool is not installed."""
    return pytest.mark.skipif(find_spec(tool) is None, reason=f"{tool} is not installed")


def write_settings(file: Path, changes: dict[str, Any]) -> None:
    """Write the settings of this name in docs/trainers.md, changed.

    A section gets the new keys, and a key with None goes.
    """
    blocks = [each.content for each in blocks_of(DOCS / "trainers.md")]
    (text,) = (each for each in blocks if each.startswith(f"# {file.name}"))
    settings = yaml.safe_load(text)
    for key, value in changes.items():
        settings[key] = settings[key] | value if isinstance(value, dict) else value
    kept = {key: value for key, value in settings.items() if value is not None}
    file.write_text(yaml.safe_dump(kept), encoding="utf-8")


def write_inputs(folder: Path, content: Any) -> None:
    """Write a tiny model, its tokenizer and rows; `content` makes that of a message of a text."""
    tokenizer = words()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder / "model")
    tiny_llama().save_pretrained(folder / "model")
    rows = [
        [
            {"role": "user", "content": content(f"w{number}")},
            {"role": "assistant", "content": content(f"w{number + 1} w{number + 2}")},
        ]
        for number in range(48)
    ]
    lines = [json.dumps({"messages": [{**each} for each in row]}) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def budget_of(folder: Path) -> tuple[int, int]:
    """Return how many triplets an adapter keeps, and its total_step."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return sum(map(sum, config["rank_pattern"].values())), config["total_step"]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of an adapter."""
    return load_file(folder / "adapter_model.safetensors")


def are_equal(one: Path, other: Path) -> bool:
    """Return whether two adapters hold the same numbers."""
    first, second = weights_of(one), weights_of(other)
    return first.keys() == second.keys() and all(
        bool((first[name] == second[name]).all()) for name in first
    )


def require_no_finding(folder: Path) -> None:
    """Check what a run wrote: no finding but on the few steps, and no byte that a fix changes."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    before = [each.read_bytes() for each in files]
    options = ("--ignore", "ADA207", "--fail-level", "info", "--fix", "--unsafe-fixes")
    output_of_python("-m", "adalora_core", "check", folder, *options)
    assert [each.read_bytes() for each in files] == before
