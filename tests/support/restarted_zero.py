"""Train the demo's words under DeepSpeed ZeRO-2; started again, continue where it was killed.

    torchrun --nproc-per-node 2 restarted_zero.py FOLDER --every 40

With another number of processes than before, DeepSpeed's own tool first writes its checkpoint as a
universal one, which any number of processes reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
import torch
from restarted_training import Run, Task, main
from torch import distributed
from zero_runs import settings, without_building

from adalora_core import allocate_on_step
from adalora_core.peft import get_peft_model

if TYPE_CHECKING:
    from pathlib import Path

NAME = "default"


class ZeroRun(Run):
    """A run whose gradients and optimizer DeepSpeed divides over the processes."""

    last_file = "whole.json"
    adapt = staticmethod(get_peft_model)

    def __init__(self, task: Task, strategy: str, rank: int, world: int) -> None:
        super().__init__(task, strategy, rank, world)
        self.engine: Any = None

    def start(self, *, reads_universal: bool = False) -> None:
        """Make the engine, which reads checkpoints of one of two kinds."""
        options = settings(2) | {
            "train_micro_batch_size_per_gpu": self.settings.batch_size // self.world,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": 0.0,
            "checkpoint": {"load_universal": reads_universal},
        }
        self.engine, *_ = deepspeed.initialize(
            model=self.classifier,
            optimizer=self.optimizer,
            lr_scheduler=self.rates,
            config=options,
        )
        allocate_on_step(self.engine, self.task.encoder)

    def learn(self, inputs: Any, labels: torch.Tensor) -> None:
        """Make an optimizer step; the hook allocates."""
        if self.engine is None:
            self.start()
        self.engine.backward(self.engine(inputs, labels))
        self.engine.step()

    def save(self, folder: Path) -> None:
        """Write DeepSpeed's checkpoint, the adapter with its training state, and then a mark."""
        self.engine.save_checkpoint(folder.parent, tag=folder.name, save_latest=False)
        if self.rank == 0:
            self.task.encoder.save_pretrained(folder / "adapter", save_training_state=True)
        distributed.barrier()  # all have written
        if self.rank == 0:
            mark = folder / "mark.json"
            mark.write_text(json.dumps({"step": self.step, "world": self.world}))
            mark.rename(folder / self.last_file)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint of any number of processes."""
        saved = json.loads((folder / self.last_file).read_text())
        reads_universal = saved["world"] != self.world
        self.start(reads_universal=reads_universal)
        source = folder
        if reads_universal:
            source = folder.with_name(f"universal-{folder.name}")
            if self.rank == 0:
                convert(folder, source)
            distributed.barrier()
        self.engine.load_checkpoint(source.parent, tag=source.name)
        self.task.encoder.load_adapter(folder / "adapter", NAME, is_trainable=True)
        self.step = saved["step"]


def convert(checkpoint: Path, universal: Path) -> None:
    """Write a checkpoint of ZeRO as one for any number of processes, by DeepSpeed's tool."""
    command = [
        sys.executable,
        "-m",
        "deepspeed.checkpoint.ds_to_universal",
        "--inject_missing_state",
    ]
    command += ["--input_folder", str(checkpoint), "--output_folder", str(universal)]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    without_building()
    main(ZeroRun, ("zero2",))
