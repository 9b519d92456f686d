"""Time a step of AdamW on adapters alone, in the three forms that torch has.

    OMP_NUM_THREADS=1 python benchmarks/studies/fused_adamw.py

The forms run in turn, in another order in each round; times are medians with their quartiles.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from shapes import LLAMA, MINILM, MatrixSizes, describe, random_factors

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS: dict[str, dict[str, Any]] = {
    "fused": {"fused": True},
    "multi-tensor": {"foreach": True},
    "parameter by parameter, the default on a CPU": {},
}
WARM_UP_ROUNDS = 3


def step_of(sizes: MatrixSizes, options: dict[str, Any]) -> Callable[[], object]:
    """Return a function that takes a step on factors of their own."""
    parameters = [torch.nn.Parameter(each) for each in random_factors(sizes)]
    for each in parameters:
        each.grad = torch.randn_like(each)
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, **options)
    return optimizer.step


def main() -> None:
    """Print one line for each form and set of matrices."""
    print(f"torch {torch.__version__}, threads: {torch.get_num_threads()}")
    shuffle = random.Random(0).shuffle  # noqa: S311 - reproducible, not secret
    for sizes, name, rounds in ((MINILM, "MiniLM", 200), (LLAMA, "LLaMA-7B", 10)):
        steps = [(form, step_of(sizes, options)) for form, options in FORMS.items()]
        times: dict[str, list[float]] = {form: [] for form in FORMS}
        for each_round in range(-WARM_UP_ROUNDS, rounds):
            shuffle(steps)
            for form, step in steps:
                start = time.perf_counter()
                step()
                if each_round >= 0:
                    times[form].append((time.perf_counter() - start) * 1e3)
        print(describe(sizes, name))
        for form, found in times.items():
            low, median, high = statistics.quantiles(found, n=4)
            print(f"  {form}: {median:.2f} ms ({low:.2f} to {high:.2f})", flush=True)


if __name__ == "__main__":
    main()
