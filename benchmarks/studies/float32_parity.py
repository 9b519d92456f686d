"""Measure how far two float32 runs part: ours and PEFT's, and PEFT's after one rounding.

    python benchmarks/studies/float32_parity.py   # prints the table of ADR 0008, some minutes

The runs are those of tests/peft/test_peft_parity.py at three learning rates. "One rounding"
moves one entry of one factor to the next float32 before training.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from tqdm import tqdm

TESTS = Path(__file__).parents[2] / "tests"
sys.path[:0] = [str(TESTS / "support"), str(TESTS / "training")]

import test_peft_parity as parity
from toy_models import tiny_llama

RATES = (1e-3, 3e-3, 1e-2)


def peft_twice(schedule: dict[str, int]) -> tuple[Any, Any]:
    """Return two runs of PEFT whose starts differ in one rounding of one entry."""
    # One configuration for each: PEFT writes the rank pattern into it.
    configs = [peft.AdaLoraConfig(**parity.settings(schedule)) for _ in range(2)]
    models = [peft.get_peft_model(tiny_llama(), config) for config in configs]
    start = {k: v.detach().clone() for k, v in parity.adapter_parameters(models[0]).items()}
    first = parity.train(models[0], start)
    name = next(each for each in start if ".lora_A." in each)
    moved = start[name].clone()
    moved[0, 0] = torch.nextafter(moved[0, 0], torch.tensor(torch.inf))
    return first, parity.train(models[1], {**start, name: moved})


def apart(first: Any, second: Any) -> str:
    """Return the step at which the patterns part, and the largest difference of a parameter."""
    pairs = zip(first.patterns, second.patterns, strict=True)
    step = next((index for index, (one, other) in enumerate(pairs) if one != other), None)
    difference = max(
        (first.parameters[name] - values).abs().max().item()
        for name, values in second.parameters.items()
    )
    return f"{'equal' if step is None else f'part at step {step}'}, {difference:.0e}"


def main() -> int:
    """Print the table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = []
    for rate in tqdm(RATES, desc="learning rates"):
        parity.LEARNING_RATE = rate
        for each in parity.SCHEDULES:
            schedule = each.values[0]
            ours = apart(*parity.train_both(schedule, torch.float32))
            rows.append(f"| {rate:g} | {each.id} | {ours} | {apart(*peft_twice(schedule))} |")
    print("| learning rate | schedule | ours and PEFT | PEFT and PEFT after one rounding |")
    print("| ---: | --- | --- | --- |")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
