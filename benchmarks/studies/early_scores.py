"""Show by what the first allocations choose, with PEFT's start and with LoRA's.

    OMP_NUM_THREADS=1 python benchmarks/studies/early_scores.py

A byte-level Llama is trained on Python's standard library, and adapted to torch's C++ headers. For
each arm a table, over the seeds: what E, A and B add to the score of a triplet at early steps, and
how well the ranks that a step would choose agree with those that the run ends with; and the loss on
held-out bytes. An exploration: one small model, few seeds. A quarter of an hour on one thread.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from adalora_core import AdaLoraConfig, get_peft_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WINDOW, BATCH = 64, 16
BASE_STEPS, STEPS = 800, 300
INIT_R, TARGET_R, WARM_UP, FINAL = 12, 4, 30, 180
SHOWN = (0, 1, 2, 5, 10, 20, 30, 60)
SMALLEST, MOST_BYTES = 200, 3_000_000


@dataclass(frozen=True, slots=True)
class Arm:
    """A start, the weight of the penalty, the learning rate, and the first allocating step."""

    start: bool | str
    penalty: float
    rate: float
    tinit: int = WARM_UP

    def __str__(self) -> str:
        name = "LoRA's start" if self.start == "lora" else "PEFT's start"
        return f"{name}, penalty {self.penalty}, rate {self.rate}, tinit {self.tinit}"


ARMS = (
    Arm("lora", 0.0, 0.01),
    Arm("lora", 0.1, 0.01),
    Arm("lora", 0.5, 0.01),
    Arm("lora", 0.0, 0.01, 0),
    Arm("lora", 0.0, 0.01, 5),
    Arm("lora", 0.1, 0.01, 0),
    Arm(start=True, penalty=0.0, rate=0.01),
    Arm(start=True, penalty=0.1, rate=0.01),
    Arm(start=True, penalty=0.5, rate=0.01),
)


@dataclass(slots=True)
class Outcome:
    """What a run showed: by step the shares and would-be ranks; and its end."""

    shares: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    ranks: dict[int, list[int]] = field(default_factory=dict)
    final: list[int] = field(default_factory=list)
    loss: float = 0.0
    parameters: int = 0


def text_of(paths: Iterable[Path]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the bytes of files in a fixed random order: nine tenths, and the rest."""
    found = sorted(paths)
    random.Random(0).shuffle(found)  # noqa: S311 - reproducible, not secret
    content = b""
    for path in found:
        content += path.read_bytes() if path.stat().st_size > SMALLEST else b""
        if len(content) > MOST_BYTES:
            break
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8).long()
    cut = len(values) * 9 // 10
    return values[:cut], values[cut:]


def batches(text: torch.Tensor, size: int, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield windows of `text` as their own labels, for ever."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(0, len(text) - WINDOW, (size, 1), generator=generator)
        ids = text[starts + torch.arange(WINDOW)]
        yield {"input_ids": ids, "labels": ids}


def model_of(weights: dict[str, Any] | None = None) -> LlamaForCausalLM:
    """Return the base model, pretrained if there are `weights`."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
    )
    model = LlamaForCausalLM(config)
    if weights is not None:
        model.load_state_dict(weights)
    return model


def rate_at(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: 20 steps up, then linearly to zero."""
    return min(1.0, (step + 1) / 20) * (1 - step / steps)


def pretrained(text: torch.Tensor) -> dict[str, Any]:
    """Return the weights of a model that was trained on `text`."""
    model = model_of()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)
    for step, batch in zip(range(BASE_STEPS), batches(text, 2 * BATCH, 1), strict=False):
        optimizer.param_groups[0]["lr"] = 2e-3 * rate_at(step, BASE_STEPS)
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def would_be_ranks(allocator: Any) -> list[int]:
    """Return how many of the best triplets each matrix has, at the target budget."""
    scores = list(allocator.triplet_scores().values())
    budget = allocator.schedule.target_budget
    least = torch.cat(scores).sort(descending=True).values[budget - 1]
    return [int((each >= least).sum()) for each in scores]


def shares_of(allocator: Any) -> tuple[float, float, float]:
    """Return the share of the mean score of a triplet that E, A and B have."""
    averages = allocator.statistics
    entries = [s * u for s, u in zip(averages.smoothed, averages.uncertainty, strict=True)]
    parts = [
        torch.cat([each.mean(axis) for each in entries[first::3]]).mean().item()
        for first, axis in ((1, 1), (0, 1), (2, 0))
    ]
    total = sum(parts)
    return tuple(each / total for each in parts)  # type: ignore[return-value]  # three


def run(arm: Arm, weights: dict[str, Any], text: tuple[torch.Tensor, ...], seed: int) -> Outcome:
    """Adapt the base model, and note what the allocator would choose by."""
    base = model_of(weights)
    torch.manual_seed(seed)
    config = AdaLoraConfig(
        target_modules="all-linear",
        exclude_modules=["lm_head"],
        init_r=INIT_R,
        target_r=TARGET_R,
        lora_alpha=2 * INIT_R,
        tinit=arm.tinit,
        tfinal=FINAL,
        total_step=STEPS,
        orth_reg_weight=arm.penalty,
        init_lora_weights=arm.start,
    )
    model = get_peft_model(base, config).train()
    optimizer = torch.optim.AdamW(
        [each for each in model.parameters() if each.requires_grad], lr=arm.rate, weight_decay=0.0
    )
    allocator = model.base_model.adapters["default"].allocator
    found = Outcome()
    for step, batch in zip(range(STEPS), batches(text[0], BATCH, 100 + seed), strict=False):
        optimizer.param_groups[0]["lr"] = arm.rate * rate_at(step, STEPS)
        model(**batch).loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
        if step in SHOWN:
            found.shares[step] = shares_of(allocator)
            found.ranks[step] = would_be_ranks(allocator)
    found.final = list(allocator.active_ranks().values())
    layers = model.base_model.adapters["default"].layers.values()
    found.parameters = sum(
        rank * (sum(each.factor_shapes) + 1) for rank, each in zip(found.final, layers, strict=True)
    )
    model.eval()
    held_out = batches(text[1], 4 * BATCH, 7)
    with torch.no_grad():
        losses = [model(**next(held_out)).loss.item() for _ in range(60)]
    found.loss = statistics.fmean(losses)
    return found


def correlation(first: list[int], second: list[int]) -> float:
    """Return Spearman's correlation; zero where one of the two is constant."""
    if len(set(first)) == 1 or len(set(second)) == 1:
        return 0.0
    return statistics.correlation(places(first), places(second))


def places(values: list[int]) -> list[float]:
    """Return the place of each value in their order; equal ones share the mean of theirs."""
    return [sum((each > other) + (each == other) / 2 for other in values) for each in values]


def main() -> None:
    """Run every arm and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="runs of each arm (default: 2)")
    seeds = range(1, 1 + parser.parse_args().seeds)
    library = Path(sysconfig.get_paths()["stdlib"])
    headers = Path(torch.__file__).parent / "include"
    weights = pretrained(text_of(library.glob("*.py"))[0])
    text = text_of(headers.rglob("*.h"))
    for arm in ARMS:
        found = [run(arm, weights, text, seed) for seed in seeds]
        losses = ", ".join(f"{each.loss:.4f}" for each in found)
        parameters = round(statistics.fmean(each.parameters for each in found))
        print(f"\n{arm}: loss {losses}; {parameters:,} parameters at the end")
        print("  step   share of E, A, B        agreement with the final ranks")
        for step in found[0].shares:
            means = [
                statistics.fmean(each.shares[step][part] for each in found) for part in range(3)
            ]
            agreement = statistics.fmean(correlation(e.ranks[step], e.final) for e in found)
            shown = " ".join(f"{each:6.1%}" for each in means)
            print(f"  {step:4}   {shown}   {agreement:5.2f}", flush=True)


if __name__ == "__main__":
    main()
