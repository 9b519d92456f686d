"""Time the parts of the ops one by one, in microseconds: the numbers of ADR 0004.

    python benchmarks/studies/where_time_goes.py

Before each part runs PEFT's way of doing the same, so that caches and heap are as the contenders
of bench_core.py find them; in the column "warm", the part itself runs before.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adalora_core import _cpu, ops
from adalora_core.ops import orthogonality
from adalora_core.ops.adapted_linear import _apply as apply_node

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench_adapted_linear import layers
from bench_orthogonality import Nothing, peft_penalty
from peft_allocator import PeftAllocator
from shapes import LLAMA, MANY_SMALL, MEDIUM, MINILM, MatrixSizes, describe, random_factors

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
BETA = 0.85


Parts = dict[str, "Callable[[], object]"]


def parts_of_allocation(sizes: MatrixSizes) -> Parts:
    """Return the parts of an update and of a selection; the first is PEFT's."""
    peft = PeftAllocator(random_factors(sizes))
    parameters = peft.parameters
    entries = sum(p.numel() for p in parameters)
    smoothed, uncertainty = torch.zeros(entries), torch.zeros(entries)
    source, target = torch.zeros(3 * entries), torch.zeros(3 * entries)
    unseen: list[None] = [None] * len(parameters)
    scores = torch.rand(peft.triplets)
    values, budget = parameters[1::3], peft.triplets * 2 // 3

    def update(gradients: list[None] | None, scores: torch.Tensor | None) -> None:
        ops.update_importance(
            parameters, gradients, smoothed, uncertainty, BETA, BETA, scores=scores
        )

    return {
        "PEFT's update": peft.update,
        "update: copy of as many bytes": lambda: target.copy_(source),
        "update: reading the parameters' objects": lambda: update(unseen, None),
        "update: the same and their gradients', from Python": lambda: [p.grad for p in parameters],
        "update": lambda: update(None, None),
        "update with scores": lambda: update(None, scores),
        "selection: version counters": lambda: torch.autograd.graph.increment_version(values),
        "selection": lambda: ops.select_triplets(scores, budget, values),
    }


def parts_of_orthogonality(sizes: MatrixSizes) -> Parts:
    """Return the parts of the penalty with its gradient; the first is PEFT's."""
    factors = random_factors(sizes)
    As = [A.requires_grad_() for A in factors[0::3]]
    Bs = [B.requires_grad_() for B in factors[2::3]]
    order = orthogonality._Order(As, Bs)
    _, grams, norms = orthogonality._empty_outputs(As[0], order.gram_size, len(As))
    block = torch.zeros(order.entries)
    pieces = order.gradients(block)
    every = (*As, *Bs)
    gradients = order.gradients(torch.zeros(order.entries))

    def added() -> None:
        for each, gradient in zip(every, gradients, strict=True):
            each.grad = gradient
        ops.add_orthogonality_gradient_(As, Bs)

    return {
        "PEFT's penalty with its gradient": lambda: torch.autograd.grad(
            peft_penalty(As, Bs), every
        ),
        "orthogonality: autograd of a function that does nothing": lambda: torch.autograd.grad(
            Nothing.apply(pieces, *every),
            every,
        ),
        "orthogonality: order of the factors": lambda: orthogonality._Order(As, Bs),
        "orthogonality: kernel forward": lambda: _cpu.orthogonality_penalty(As, Bs, grams, norms),
        "orthogonality: tensors of the gradients": lambda: order.gradients(
            orthogonality._block(As[0], order.entries)
        ),
        "orthogonality: kernel backward": lambda: _cpu.orthogonality_gradient(
            As, Bs, grams, norms, 1.0, block
        ),
        "orthogonality with its gradient": lambda: torch.autograd.grad(
            ops.orthogonality_penalty(As, Bs), every
        ),
        "orthogonality: its gradient added without autograd": added,
    }


def parts_of_layer(tokens: int) -> Parts:
    """Return the parts of an adapted layer of MiniLM, forward and backward; the first is LoRA's."""
    found = layers(384, 384, torch.float32)
    x, grad = torch.randn(8, tokens, 384, requires_grad=True), torch.randn(8, tokens, 384)
    ours: Any = found["ours"]
    weight, bias = ours.base_layer.weight, ours.base_layer.bias
    factors = [getattr(ours, f"lora_{each}")["default"] for each in "AEB"]
    rows, grad_rows = x.detach().flatten(0, 1), grad.flatten(0, 1)
    hidden, output = rows.new_empty(len(rows), len(factors[0])), torch.empty_like(rows)
    gradients = [torch.empty_like(each) for each in (rows, *factors)]
    given = [gradients[0].view_as(x), *gradients[1:]]

    def whole(layer: torch.nn.Module) -> Callable[[], object]:
        trained = [x, *(each for each in layer.parameters() if each.requires_grad)]
        return lambda: torch.autograd.grad(layer(x), trained, grad)

    def kernels() -> None:
        _cpu.svd_linear_forward(output, rows, *factors, 1.0, 0.0, 0, hidden, output)
        _cpu.svd_linear_backward(grad_rows, rows, hidden, *factors, 1.0, 0.0, 0, *gradients, True)

    def products() -> None:
        torch.nn.functional.linear(rows, weight, bias)
        torch.mm(grad_rows, weight)

    return {
        "PEFT's plain LoRA": whole(found["plain LoRA"]),
        "layer: frozen": whole(found["alone"]),
        "layer: of it: its two products": products,
        "layer: autograd of a function that does nothing": lambda: torch.autograd.grad(
            Nothing.apply(given, x, *factors), [x, *factors]
        ),
        "layer: kernels of the adapter": kernels,
        "layer: ours, forward": lambda: ours(x),
        "layer: its node, forward": lambda: apply_node(
            None, x, *factors, ((1.0, 0.0, 0), False, weight, bias)
        ),
        "layer: ours": whole(ours),
    }


def measure(function: Callable[[], object], before: Callable[[], object]) -> float:
    """Return the median time of `function` after `before`."""
    times = []
    for _ in range(ROUNDS):
        before()
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1e6)
    return statistics.median(times)


def show(what: str, parts: Parts) -> None:
    """Print a table of `parts`."""
    print(f"\n| {what} | after PEFT's | warm |\n|---|---:|---:|")
    before = next(iter(parts.values()))
    for part, function in parts.items():
        cold, warm = measure(function, before), measure(function, function)
        print(f"| {part} | {cold:.0f} | {warm:.0f} |", flush=True)


def main() -> None:
    """Print one table for each set of matrices."""
    print(f"threads: {torch.get_num_threads()}")
    for tokens in (1, 16):
        show(f"one layer, [8 x {tokens} x 384 -> 384]", parts_of_layer(tokens))
    for sizes, name in (
        (MINILM, "MiniLM"),
        (MEDIUM, "medium"),
        (MANY_SMALL, "many small"),
        (LLAMA, "LLaMA-7B"),
    ):
        for make in (parts_of_allocation, parts_of_orthogonality):
            show(describe(sizes, name), make(sizes))


if __name__ == "__main__":
    main()
