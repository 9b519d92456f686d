"""Train the demo's words by two workers of Ray Train, of which one is killed once.

    python restarted_ray.py FOLDER

Ray starts both again, and they continue from the newest whole checkpoint.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import killed_training
import restarted_training
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import distributed

EVERY = 40
DEATH = killed_training.Death(1, "step 97", 0.2)


def work(config: dict[str, Any]) -> None:
    """Train as `restarted_training` does; kill the second worker the first time."""
    torch.set_num_threads(1)
    folder, rank = Path(config["folder"]), distributed.get_rank()
    if rank == DEATH.rank and not (folder / "died").exists():
        (folder / "died").touch()
        killed_training.die(DEATH)
    if rank == 0:
        with (folder / "starts").open("a") as starts:
            print(restarted_training.newest_whole(folder), file=starts)
    arguments = argparse.Namespace(
        folder=folder, strategy="ddp", task="demo", every=EVERY, dropout=False
    )
    restarted_training.run(arguments, rank, distributed.get_world_size())
    distributed.barrier()


def main(folder: Path) -> None:
    """Train to the end; Ray's own files are beside the checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    TorchTrainer(
        work,
        train_loop_config={"folder": str(folder)},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            storage_path=str(folder / "ray"), failure_config=FailureConfig(max_failures=1)
        ),
    ).fit()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
