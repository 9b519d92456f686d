"""Probe torch and the libraries that train models; see feature_probes.py."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from probe_setting import (
    live_triplets,
    llama,
    make,
    need,
    need_bridge,
    train,
)
from target_probes import IDS, LANGUAGE

if TYPE_CHECKING:
    from collections.abc import Iterator


# --- torch ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def one_process() -> Iterator[None]:
    """Make a group of one process."""
    from torch import distributed

    with tempfile.TemporaryDirectory() as folder:
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=0, world_size=1
        )
        try:
            yield
        finally:
            distributed.destroy_process_group()


def sharded(library: str) -> None:
    """Train under FSDP2 and save."""
    from torch.distributed.fsdp import fully_shard

    with one_process(), tempfile.TemporaryDirectory() as folder:
        model = make(library)
        fully_shard(model)
        train(model)
        model.save_pretrained(folder)
        need((Path(folder) / "adapter_model.safetensors").exists(), "not saved")


# --- libraries ------------------------------------------------------------------------------------


def trainer_allocates(library: str) -> None:
    """Allocate under Trainer with a callback."""
    from transformers import Trainer, TrainingArguments

    from adalora_core import AdaLoraCallback

    need_bridge()
    model = make(library, llama(), total_step=10, tinit=1, tfinal=2, **LANGUAGE)
    rows = [{"input_ids": IDS[0], "labels": IDS[0]}] * 8
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        arguments = TrainingArguments(
            folder, max_steps=10, report_to=[], use_cpu=True, disable_tqdm=True
        )
        trainer = Trainer(model, arguments, train_dataset=rows)
        AdaLoraCallback().add_to(trainer)
        trainer.train()
    need(live_triplets(model) == 2, "the number of kept triplets is not the budget")
