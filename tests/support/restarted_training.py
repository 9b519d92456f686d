"""Train on any number of processes, and continue from the newest whole checkpoint.

    accelerate launch ... restarted_training.py FOLDER --strategy ddp
    torchrun --nproc-per-node 2 restarted_training.py FOLDER --strategy fsdp2

Started again after a crash, with as many processes or others, the program continues. The task is
that of `adalora demo`, or with --task tiny one of seconds in float64.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torch.distributed.checkpoint as dcp
from process_groups import leave
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.demo.experiment import (
    FULL,
    DemoSettings,
    WordBatches,
    accuracy,
    load_encoder,
    mean_pooled,
    split_words,
    verified_model_folder,
)
from adalora_core.trainers.distributed import AdapterState, check_agreement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TINY = DemoSettings(
    train_words=200, held_out_words=100, batch_size=8, tinit=4, tfinal=10, deltaT=2, epochs=2
)
WIDTH = 10


class Vectors:
    """Random vectors with labels, batched as words are."""

    def __init__(self, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.vectors = torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)
        self.labels = (self.vectors[:, 0] > self.vectors[:, 1].abs() - 0.5).double()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors and labels at `indices`."""
        return self.vectors[indices], self.labels[indices]


@dataclass
class Task:
    """What is trained, by what, and how it is measured."""

    settings: DemoSettings
    encoder: Any
    blocks: list[nn.Module]
    pooled: Callable[[nn.Module, Any], torch.Tensor]
    width: int
    words: Any
    held_out: Any


def demo(adapt: Callable[..., Any]) -> Task:
    """Return the task of `adalora demo`."""
    folder = verified_model_folder()
    train, held_out = split_words(FULL)
    encoder = adapt(load_encoder(folder), AdaLoraConfig(**FULL.configuration()))
    blocks = list(encoder.get_base_model().encoder.layer)
    words = WordBatches(folder, train), WordBatches(folder, held_out)
    return Task(FULL, encoder, blocks, mean_pooled, encoder.config.hidden_size, *words)


def tiny(adapt: Callable[..., Any]) -> Task:
    """Return a task in float64 that trains in a second."""
    blocks = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Dropout(0.1)) for _ in range(3)]
    base = nn.Sequential(*blocks).double()
    fields = TINY.configuration() | {"target_modules": r"\d\.0", "task_type": None}
    encoder = adapt(base, AdaLoraConfig(**fields))
    words = Vectors(TINY.train_words, 1), Vectors(TINY.held_out_words, 2)
    return Task(TINY, encoder, blocks, lambda model, x: model(x), WIDTH, *words)


TASKS = {"demo": demo, "tiny": tiny}


class Classifier(nn.Module):
    """Encoder and head in one module, so that one wrapper synchronises both."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.encoder = task.encoder
        self.head = nn.Linear(task.width, 1, dtype=next(task.encoder.parameters()).dtype)
        self.pooled = task.pooled

    def forward(self, inputs: Any, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss, penalty included, or without labels the logits."""
        logits = self.head(self.pooled(self.encoder, inputs)).squeeze(-1)
        if labels is None:
            return logits
        penalty = self.encoder.orthogonality_penalty()
        return binary_cross_entropy_with_logits(logits, labels.to(logits.dtype)) + penalty


def wrap(classifier: Classifier, blocks: list[nn.Module], strategy: str, world: int) -> nn.Module:
    """Divide the model or its batches over the processes; DeepSpeed does it later."""
    if world == 1 or strategy == "zero2":
        return classifier
    if strategy == "ddp":
        # After its first step DDP sums gradients in other buckets, unless it looks for unused
        # parameters. A sum of three numbers depends on their order, so bits of a resumed run would.
        return DistributedDataParallel(classifier, find_unused_parameters=world > 2)
    mesh = init_device_mesh("cpu", (world,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(classifier, mesh=mesh)


class Run:
    """A model with all that a checkpoint has to restore.

    Attributes:
        last_file: the file of a checkpoint that is written last.
        adapt: what adds the adapter.
    """

    last_file = ".metadata"
    adapt = staticmethod(get_peft_model)

    def __init__(self, task: Task, strategy: str, rank: int, world: int) -> None:
        self.task, self.rank, self.world = task, rank, world
        self.settings = task.settings
        self.classifier = Classifier(task)
        self.wrapped = wrap(self.classifier, task.blocks, strategy, world)
        # After wrapping: FSDP2 puts other parameters in the place of those it divides.
        trained = [each for each in self.wrapped.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=self.settings.learning_rate, fused=True)
        self.rates = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, self.settings.learning_rate_factor
        )
        self.step = 0

    def state(self, world: int) -> dict[str, Any]:
        """Return the state of a run of `world` processes, or a place to load it into."""
        state = {
            "step": self.step,
            "adapter": AdapterState(self.task.encoder),
            "head": self.classifier.head.state_dict(),
            "optimizer": get_optimizer_state_dict(self.classifier, self.optimizer),
            "rates": self.rates.state_dict(),
        }
        if world == self.world:
            # Of each process its own: dropout differs.
            state[f"random of {self.rank}"] = torch.get_rng_state()
        return state

    def save(self, folder: Path) -> None:
        """Write a checkpoint; its metadata is written last."""
        state = self.state(self.world) | {"world": self.world}
        dcp.save(state, checkpoint_id=folder, no_dist=self.world == 1)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint of any number of processes."""
        alone = {"checkpoint_id": folder, "no_dist": self.world == 1}
        saved = {"world": 0}
        dcp.load(saved, **alone)
        state = self.state(saved["world"])
        dcp.load(state, **alone)
        self.step = state["step"]
        set_optimizer_state_dict(self.classifier, self.optimizer, state["optimizer"])
        self.rates.load_state_dict(state["rates"])
        if (random := state.get(f"random of {self.rank}")) is not None:
            torch.set_rng_state(random)

    def batches(self) -> Iterator[torch.Tensor]:
        """Return the global batches from the current step on: the seed decides their order."""
        order = torch.Generator().manual_seed(self.settings.seed)
        batches = [
            batch
            for _ in range(self.settings.epochs)
            for batch in torch.randperm(len(self.task.words), generator=order).split(
                self.settings.batch_size
            )
        ]
        yield from batches[self.step :]

    def train(self, folder: Path, every: int) -> None:
        """Train to the end, with a checkpoint after every `every` steps."""
        self.wrapped.train()
        for batch in self.batches():
            self.learn(*self.task.words.batch(batch[self.rank :: self.world]))
            self.step += 1
            self.say(f"step {self.step}")
            if self.step % every == 0:
                self.say(f"save {self.step}")
                self.save(folder / f"step-{self.step:06d}")

    def learn(self, inputs: Any, labels: torch.Tensor) -> None:
        """Make an optimizer step by this process's part of a batch."""
        self.wrapped(inputs, labels).backward()
        self.optimizer.step()
        self.task.encoder.update_and_allocate(self.step)
        self.optimizer.zero_grad()
        self.rates.step()

    def say(self, text: str) -> None:
        """Print a line, by the first process."""
        if self.rank == 0:
            say(text)

    def outcome(self) -> dict[str, Any]:
        """Return what two runs are compared by; every process has to call this."""
        self.wrapped.eval()
        with torch.no_grad():
            parts = torch.arange(len(self.task.held_out)).split(250)
            scores = [self.wrapped(self.task.held_out.batch(each)[0]) for each in parts]
        check_agreement(self.task.encoder)
        (adapter,) = self.task.encoder.base_model.trained_adapters()
        allocator = adapter.allocator
        parameters = {
            name: (each.full_tensor() if hasattr(each, "full_tensor") else each).detach()
            for name, each in self.classifier.named_parameters()
            if each.requires_grad
        }
        return {
            "parameters": parameters,
            "accuracy": accuracy(torch.cat(scores), self.task.held_out.labels),
            "mask": allocator.mask.tolist(),
            "ranks": allocator.rank_history(),
            "budgets": [(each.step, each.budget) for each in allocator.history],
        }


def say(text: str) -> None:
    """Print a line at once and in one piece: other processes print too."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def newest_whole(folder: Path, last_file: str = Run.last_file) -> Path | None:
    """Return the last checkpoint whose save came to its end."""
    whole = sorted(each.parent for each in folder.glob(f"step-*/{last_file}"))
    return whole[-1] if whole else None


def run(arguments: argparse.Namespace, rank: int, world: int, kind: type[Run] = Run) -> None:
    """Train from the newest whole checkpoint, or from the beginning, to the end."""
    torch.manual_seed(0)
    task = TASKS[arguments.task](kind.adapt)
    if not arguments.dropout:
        for module in task.encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    training = kind(task, arguments.strategy, rank, world)
    if checkpoint := newest_whole(arguments.folder, kind.last_file):
        training.load(checkpoint)
    training.train(arguments.folder, arguments.every)
    outcome = training.outcome()
    if rank == 0:
        torch.save(outcome | {"world": world}, arguments.folder / "outcome.pt")


def main(kind: type[Run] = Run, strategies: tuple[str, ...] = ("ddp", "fsdp2")) -> None:
    """Read the command line, join the other processes, run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strategy", choices=strategies, default=strategies[0])
    parser.add_argument("--task", choices=TASKS, default="demo")
    parser.add_argument("--every", type=int, default=20, help="steps between two checkpoints")
    parser.add_argument("--dropout", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if "RANK" not in os.environ:
        run(arguments, 0, 1, kind)
        return
    distributed.init_process_group("gloo")
    rank, world = distributed.get_rank(), distributed.get_world_size()
    say(f"rank {rank} is process {os.getpid()}")
    try:
        run(arguments, rank, world, kind)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
    leave()
