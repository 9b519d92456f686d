"""Time the products of an adapter alone, torch's and those of the core, in microseconds.

    python benchmarks/studies/skinny_products.py

The products run without autograd, at rank 12, and write into memory that exists: the choice of
ADR 0002.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from adalora_core import _cpu

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_svd_linear import SCALE, SHAPES
from shapes import RANK

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 100

Contenders = dict[str, "Callable[[], object]"]


def contenders(tokens: int, n_in: int, n_out: int, dtype: torch.dtype) -> Contenders:
    """Return forward and backward products of torch and of the core, all of one dtype."""
    x, grad = torch.randn(tokens, n_in).to(dtype), torch.randn(tokens, n_out).to(dtype)
    A, E, B = (torch.randn(size).to(dtype) for size in ((RANK, n_in), (RANK, 1), (n_out, RANK)))
    output, hidden = torch.zeros(tokens, n_out, dtype=dtype), torch.zeros(tokens, RANK)
    gradients = [torch.empty_like(each) for each in (x, A, E, B)]
    kept = hidden.to(dtype)
    dx, dA, _, dB = gradients

    def torch_forward() -> None:
        torch.mm(x, A.T, out=kept)
        output.addmm_(kept * E.T, B.T, alpha=SCALE)

    def torch_backward() -> None:
        dZ = (grad @ B).mul_(SCALE)
        dH = dZ * E.T
        torch.mm(dH, A, out=dx)
        torch.mm(dH.T, x, out=dA)
        (dZ * kept).sum(0)
        torch.mm(grad.T, (kept * E.T).mul_(SCALE), out=dB)

    return {
        "torch forward": torch_forward,
        "ours forward": lambda: _cpu.svd_linear_forward(
            output, x, A, E, B, SCALE, 0.0, 0, hidden, output
        ),
        "torch backward": torch_backward,
        "ours backward": lambda: _cpu.svd_linear_backward(
            grad, x, hidden, A, E, B, SCALE, 0.0, 0, *gradients, False
        ),
    }


def measure(functions: Contenders) -> dict[str, float]:
    """Return the median of each, all run in turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append((time.perf_counter() - start) * 1e6)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print the table."""
    print(f"core: {_cpu.isa_name()}; torch: {torch.backends.cpu.get_cpu_capability()}\n")
    print("| shape | dtype | forward, torch / ours | backward, torch / ours |\n|---|---|---|---|")
    for dtype in (torch.float32, torch.bfloat16):
        for tokens, n_in, n_out in SHAPES:
            found = measure(contenders(tokens, n_in, n_out, dtype))
            cells = [
                f"{found[f'torch {way}']:.0f} / {found[f'ours {way}']:.0f}"
                for way in ("forward", "backward")
            ]
            name = str(dtype).removeprefix("torch.")
            print(f"| [{tokens} x {n_in} -> {n_out}] | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
