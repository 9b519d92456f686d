"""Train in forked processes, of which one kills itself, and start the run again.

A process dies at a chosen step or in the middle of a save.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
import torch.distributed.checkpoint as dcp
from distributed_runs import prepare, train
from process_groups import run_processes
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.parallel import DistributedDataParallel

from adalora_core import AdaLoraConfig, get_peft_model
from adalora_core.commands.demo.experiment import DemoSettings, accuracy
from adalora_core.trainers.distributed import AdapterState, check_agreement

EVERY = 6
"""Steps between two checkpoints."""
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


class Classifier(nn.Module):
    """Encoder and head in one module, so that one wrapper synchronises both."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(WIDTH, 1, dtype=torch.float64)

    def forward(self, inputs: Any, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Return the loss, penalty included, or without labels the logits."""
        logits = self.head(self.encoder(inputs)).squeeze(-1)
        if labels is None:
            return logits
        return (
            binary_cross_entropy_with_logits(logits, labels) + self.encoder.orthogonality_penalty()
        )


def wrap(classifier: Classifier, blocks: list[nn.Module], strategy: str, world: int) -> nn.Module:
    """Divide the model or its batches over the processes."""
    if world == 1:
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
    """A model with all that a checkpoint has to restore; it trains in a second, in float64."""

    def __init__(self, strategy: str, rank: int, world: int, *, dropout: bool) -> None:
        self.rank, self.world = rank, world
        chance = 0.1 if dropout else 0.0
        blocks = [
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Dropout(chance)) for _ in range(3)
        ]
        fields = TINY.configuration() | {"target_modules": r"\d\.0", "task_type": None}
        base = nn.Sequential(*blocks).double()
        self.encoder = get_peft_model(base, AdaLoraConfig(**fields))
        self.words, self.held_out = Vectors(TINY.train_words, 1), Vectors(TINY.held_out_words, 2)
        self.classifier = Classifier(self.encoder)
        self.wrapped = wrap(self.classifier, blocks, strategy, world)
        # After wrapping: FSDP2 puts other parameters in the place of those it divides.
        trained = [each for each in self.wrapped.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=TINY.learning_rate, fused=True)
        self.rates = torch.optim.lr_scheduler.LambdaLR(self.optimizer, TINY.learning_rate_factor)
        self.step = 0

    def state(self, world: int) -> dict[str, Any]:
        """Return the state of a run of `world` processes, or a place to load it into."""
        state = {
            "step": self.step,
            "adapter": AdapterState(self.encoder),
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
        order = torch.Generator().manual_seed(TINY.seed)
        batches = [
            batch
            for _ in range(TINY.epochs)
            for batch in torch.randperm(len(self.words), generator=order).split(TINY.batch_size)
        ]
        yield from batches[self.step :]

    def train(self, folder: Path, every: int) -> None:
        """Train to the end, with a checkpoint after every `every` steps."""
        self.wrapped.train()
        for batch in self.batches():
            self.learn(*self.words.batch(batch[self.rank :: self.world]))
            self.step += 1
            self.say(f"step {self.step}")
            if self.step % every == 0:
                self.say(f"save {self.step}")
                self.save(folder / f"step-{self.step:06d}")

    def learn(self, inputs: Any, labels: torch.Tensor) -> None:
        """Make an optimizer step by this process's part of a batch."""
        self.wrapped(inputs, labels).backward()
        self.optimizer.step()
        self.encoder.update_and_allocate(self.step)
        self.optimizer.zero_grad()
        self.rates.step()

    def say(self, text: str) -> None:
        """Announce what comes next; `die` listens."""

    def outcome(self) -> dict[str, Any]:
        """Return what two runs are compared by; every process has to call this."""
        self.wrapped.eval()
        with torch.no_grad():
            parts = torch.arange(len(self.held_out)).split(250)
            scores = [self.wrapped(self.held_out.batch(each)[0]) for each in parts]
        check_agreement(self.encoder)
        (adapter,) = self.encoder.base_model.trained_adapters()
        allocator = adapter.allocator
        parameters = {
            name: (each.full_tensor() if hasattr(each, "full_tensor") else each).detach()
            for name, each in self.classifier.named_parameters()
            if each.requires_grad
        }
        return {
            "parameters": parameters,
            "accuracy": accuracy(torch.cat(scores), self.held_out.labels),
            "mask": allocator.mask.tolist(),
            "ranks": allocator.rank_history(),
            "budgets": [(each.step, each.budget) for each in allocator.history],
        }


def newest_whole(folder: Path) -> Path | None:
    """Return the last checkpoint whose save came to its end: the metadata is written last."""
    whole = sorted(each.parent for each in folder.glob("step-*/.metadata"))
    return whole[-1] if whole else None


class Death(NamedTuple):
    """When which process dies.

    Attributes:
        rank: the process.
        line: the line of the first process that announces it: "step 7" or "save 20".
        delay: seconds from there to the signal, if no call is given.
        call: of a save, which call of fsync or rename is the last.
    """

    rank: int
    line: str
    delay: float = 0.0
    call: int | None = None


def forked(world: int, folder: Path, death: Death | None = None, **options: Any) -> Any:
    """Train in `world` processes; return the outcome, or None after a death."""
    folder.mkdir(exist_ok=True)
    number = len(list(folder.parent.iterdir()))
    run_processes(world, _work, folder.parent / f"{folder.name}-{number}", folder, options, death)
    found = folder / "outcome.pt"
    assert found.exists() == (death is None)
    return torch.load(found) if death is None else None


def _work(rank: int, folder: Path, options: dict[str, Any], death: Death | None) -> None:
    if death is not None and rank == death.rank:
        die(death)
    torch.manual_seed(0)
    training = Run(rank=rank, world=int(os.environ["WORLD_SIZE"]), **options)
    try:
        if checkpoint := newest_whole(folder):
            training.load(checkpoint)
        training.train(folder, EVERY)
        outcome = training.outcome()
    except Exception:
        # Which error an interrupted collective raises is torch's choice.
        if death is None or rank == death.rank:
            raise
        return
    if rank == 0:
        torch.save(outcome, folder / "outcome.pt")


def die(death: Death) -> None:
    """Make this process kill itself."""

    def say(_run: Any, text: str) -> None:
        if text == death.line:
            if death.call is None:
                threading.Timer(death.delay, _kill_this_process).start()
            else:
                os.fsync, os.rename = deadly(os.fsync), deadly(os.rename)

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if next(calls) == death.call:
                _kill_this_process()
            return function(*arguments)

        return call

    calls = itertools.count()
    Run.say = say  # type: ignore[method-assign]


def _kill_this_process() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class PageRun(NamedTuple):
    """What a run with `save` and `resume` of a page did, and random numbers after either."""

    start: int
    trace: Any
    after_resume: torch.Tensor
    after_save: torch.Tensor


def train_as_the_page_tells(_rank: int, block: str, kind: str, folder: Path, stop: int) -> PageRun:
    """Train until before `stop` with the functions that a block of a page defines."""
    names: dict[str, Any] = {"__name__": "restart"}
    exec(block, names)  # noqa: S102 - the page's own code
    model, wrapped, optimizer = prepare(kind)
    start = names["resume"](folder, model, optimizer)
    after_resume = torch.rand(1)
    trace = train(wrapped, model, range(start, stop), optimizer=optimizer)
    names["save"](folder, model, optimizer, stop)
    return PageRun(start, trace, after_resume, torch.rand(1))
