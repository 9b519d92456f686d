"""Run the programs of docs/scaling.md by the commands of the page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from programs import LEAVING_RANKS, Finished, run
from safetensors.torch import load_file
from walkthroughs import blocks_of

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
PROGRAMS = PAGE.parents[1] / "examples" / "distributed"
VARIABLE = re.compile(r"[A-Z_]+=")
MODULES = {"torchrun": "torch.distributed.run", "accelerate": "accelerate.commands.accelerate_cli"}


def write_files(folder: Path) -> set[str]:
    """Copy the programs of the page; return the names."""
    shutil.copytree(PROGRAMS, folder, dirs_exist_ok=True)
    return {path.name for path in PROGRAMS.iterdir()}


def commands() -> list[tuple[dict[str, str], list[str]]]:
    """Return the commands of the page: variables of the environment, and words."""
    found = []
    for block in blocks_of(PAGE):
        for line in block.content.splitlines() if block.language == "console" else ():
            words = shlex.split(line)
            variables = dict(word.split("=") for word in words if VARIABLE.match(word))
            found.append((variables, words[len(variables) :]))
    return found


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def launched(words: list[str], folder: Path, variables: dict[str, str] | None = None) -> Finished:
    """Run a command of the page in a folder with its files; it has to succeed."""
    program, *arguments = words
    module = ("-m", MODULES[program]) if program in MODULES else ()
    command = [sys.executable, *module] if program in {*MODULES, "python"} else [program]
    settings = {
        "PYTHONPATH": os.pathsep.join((LEAVING_RANKS, *filter(None, sys.path))),
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    variables = settings | (variables or {})
    done = run(*command, *arguments, variables=variables, cwd=folder, timeout=1200)
    assert done.returncode == 0, f"{words}: {done.stderr[-4000:]}"
    return done


@pytest.mark.nightly
def test_every_program_of_the_page_runs(tmp_path: Path) -> None:
    names = write_files(tmp_path)
    ran = set()
    for variables, words in commands():
        launched(words, tmp_path, variables)
        ran |= set(words) & names
    assert names - ran == {"model.py", "by_ray.py", "job.slurm"}
    whole = adapter(tmp_path / "by-ddp")
    assert sum(len(each) for name, each in whole.items() if name.endswith("lora_E")) == 12
    for found in ("by-fsdp2", "resumed", "checkpoints/adapter"):
        torch.testing.assert_close(adapter(tmp_path / found), whole, atol=1e-4, rtol=0)
    assert adapter(tmp_path / "by-trainer").keys() == whole.keys()


def test_the_file_for_accelerate_asks_for_fsdp2(tmp_path: Path) -> None:
    write_files(tmp_path)
    config = load_config_from_file(str(tmp_path / "fsdp2.yaml"))
    assert config.distributed_type == "FSDP"
    assert config.fsdp_config["fsdp_version"] == 2
