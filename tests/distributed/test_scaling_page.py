"""Run every block of docs/scaling.md as it is there, by the commands of the page."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from programs import run
from safetensors.torch import load_file
from walkthroughs import blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
NAMED = re.compile(r"# (\S+\.(?:py|yaml))\n")
MODULES = {"torchrun": "torch.distributed.run", "accelerate": "accelerate.commands.accelerate_cli"}


def write_files(folder: Path) -> set[str]:
    """Write the blocks of the page into the files that they name; return the names."""
    names = set()
    for block in blocks_of(PAGE):
        if block.language in {"python", "yaml"}:
            name = NAMED.match(block.content)
            assert name, f"{PAGE.name}:{block.line}: the first line names no file"
            (folder / name[1]).write_text(block.content, encoding="utf-8")
            names.add(name[1])
    return names


def commands() -> list[list[str]]:
    """Return the commands of the page; tests/docs/test_example_scripts.py runs the examples."""
    lines = [
        shlex.split(line)
        for block in blocks_of(PAGE)
        if block.language == "console"
        for line in block.content.splitlines()
    ]
    return [line for line in lines if not any(each.startswith("examples/") for each in line)]


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.mark.slow
def test_every_block_of_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    names = write_files(tmp_path)
    ran = set()
    for program, *arguments in commands():
        paths = os.pathsep.join(path for path in sys.path if path)
        variables = {"PYTHONPATH": paths, "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
        command = (sys.executable, "-m", MODULES[program], *arguments)
        done = run(*command, variables=variables, cwd=tmp_path, timeout=1200)
        assert done.returncode == 0, f"{arguments}: {done.stderr[-4000:]}"
        # On CPUs accelerate ignores FSDP, and the page says that there is a warning.
        asked = done.stderr.count("UserWarning: accelerate was asked for FSDP")
        assert asked == (program == "accelerate")
        ran |= set(arguments) & names
    assert names - ran == {"model.py"}
    whole = adapter(tmp_path / "by-ddp")
    assert sum(len(each) for name, each in whole.items() if name.endswith("lora_E")) == 12
    for found in ("by-fsdp2", "resumed"):
        torch.testing.assert_close(adapter(tmp_path / found), whole, atol=1e-4, rtol=0)
    assert adapter(tmp_path / "by-trainer").keys() == whole.keys()


def test_the_file_for_accelerate_asks_for_fsdp2(tmp_path: Path) -> None:
    write_files(tmp_path)
    config = load_config_from_file(str(tmp_path / "fsdp2.yaml"))
    assert config.distributed_type == "FSDP"
    assert config.fsdp_config["fsdp_version"] == 2
