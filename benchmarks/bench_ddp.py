"""Compare a DDP step of ours with the same step of PEFT's plain LoRA.

    python benchmarks/bench_ddp.py        # writes benchmarks/results/ddp.{json,md}

Two processes with one thread each exchange over gloo. In both, two models of MiniLM's shape take
steps in turn. Ours adds the penalty and allocates at every step.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

# Idle threads of several processes must not spin against each other; before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import peft
import torch
from bench_training_step import ADAPTER, SCHEDULE, minilm
from shapes import RANK
from step_costs import RESULTS, compare, write
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from adalora_core import AdaLoraConfig, get_peft_model

WORLD = 2
WARM_UP_ROUNDS = 3
GOAL = 1.02


class Contender:
    """A model under DDP that takes steps."""

    def __init__(self, model: Any) -> None:
        self.model = model.train()
        self.wrapped = DistributedDataParallel(model)
        trained = [each for each in model.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, 1e-4)
        self.is_allocating = hasattr(model, "orthogonality_penalty")
        self.step = 0

    def take_step(self, tokens: torch.Tensor) -> float:
        """Take one step together with the other process; return the seconds of this one."""
        distributed.barrier()
        start = time.perf_counter()
        loss = self.wrapped(input_ids=tokens).last_hidden_state.square().mean()
        if self.is_allocating:
            loss = loss + self.model.orthogonality_penalty()
        loss.backward()
        self.optimizer.step()
        if self.is_allocating:
            self.model.update_and_allocate(self.step)
        self.optimizer.zero_grad()
        self.step += 1
        return time.perf_counter() - start


def contenders() -> dict[str, Contender]:
    """Return ours and PEFT's plain LoRA of the same rank."""
    ours = get_peft_model(minilm(), AdaLoraConfig(**SCHEDULE, **ADAPTER))
    lora = peft.get_peft_model(minilm(), peft.LoraConfig(r=RANK, **ADAPTER))
    return {"ours": Contender(ours), "plain LoRA": Contender(lora)}


def work(rank: int, folder: str, batch: tuple[int, int], rounds: int) -> None:
    """Measure in one of the processes, and save the seconds of every round."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD
    )
    models = contenders()
    seconds: dict[str, list[float]] = {name: [] for name in models}
    generator = torch.Generator().manual_seed(rank)
    for each_round in range(-WARM_UP_ROUNDS, rounds):
        tokens = torch.randint(0, 30000, batch, generator=generator)
        # Each model goes first equally often.
        order = list(models) if each_round % 2 else list(models)[::-1]
        for name in order:
            taken = models[name].take_step(tokens)
            if each_round >= 0:
                seconds[name].append(taken)
    torch.save(seconds, f"{folder}/seconds-{rank}")
    distributed.destroy_process_group()


def measure(batch: tuple[int, int], rounds: int) -> dict[str, list[float]]:
    """Return for each contender the seconds of every round, those of the slower process."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(work, (folder, batch, rounds), nprocs=WORLD)
        found = [torch.load(f"{folder}/seconds-{rank}") for rank in range(WORLD)]
    first, second = found
    return {
        name: [max(pair) for pair in zip(first[name], second[name], strict=True)] for name in first
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", action="append", metavar="ROWSxTOKENS", help="of each process")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    comparisons = []
    for text in arguments.batch or ["8x16", "16x32"]:
        rows, tokens = map(int, text.split("x"))
        seconds = measure((rows, tokens), arguments.rounds)
        label = f"MiniLM, {WORLD} x {rows} x {tokens} tokens"
        comparisons.append(compare(label, seconds, "ours", "plain LoRA", GOAL))
    title = "# A step with DDP\n\nWritten by `python benchmarks/bench_ddp.py`: two processes, gloo."
    print(write("ddp", title, comparisons, arguments.output))


if __name__ == "__main__":
    main()
