"""Threads that call every op at once get what one thread alone gets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tolerances import assert_all_equal

from adalora_core import ops

THREADS = 4
CALLS = 15


@pytest.fixture
def _switching() -> Iterator[None]:
    """Let threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def call_every_op(number: int) -> list[torch.Tensor]:
    """Return what the ops give for tensors of sizes that belong to `number`."""
    made = torch.Generator().manual_seed(number)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=made)

    matrices, n_in, n_out, rank = 2 + 3 * number, 8 + number, 5 + number, 2 + number
    shapes = [(rank, n_in), (rank, 1), (n_out, rank)] * matrices
    parameters = [random(*shape).requires_grad_() for shape in shapes]
    As, Es, Bs = parameters[0::3], parameters[1::3], parameters[2::3]
    x, weight = random(3, n_in), random(n_out, n_in)
    flat = [torch.zeros(sum(each.numel() for each in parameters)) for _ in range(2)]
    lists = [[torch.zeros(shape) for shape in shapes] for _ in range(2)]
    scores = torch.empty(matrices * rank)
    masks = []
    for budget in range(CALLS, 0, -1):
        for each in parameters:
            each.grad = None
        loss = ops.orthogonality_penalty(As, Bs)
        for A, E, B in zip(As, Es, Bs, strict=True):
            output = ops.adapted_linear(x, weight, None, A, E, B, 0.5)
            loss = loss + ops.svd_linear(output, x, A, E, B, 0.5).square().mean()
        loss.backward()
        ops.update_importance(parameters, None, *flat, 0.85, 0.85, scores=scores)
        ops.update_importance(parameters, None, *lists, 0.85, 0.85)
        values = [each.detach() for each in Es]
        masks.append(ops.select_triplets(scores, budget, values))
        ops.apply_mask(masks[-1], values)
    gradients = [each.grad for each in parameters if each.grad is not None]
    return [loss.detach(), scores, *masks, *flat, *lists[0], *lists[1], *gradients, *Es]


@pytest.mark.usefixtures("_switching")
def test_threads_at_once_get_what_each_gets_alone(device: str) -> None:
    del device
    expected = [call_every_op(number) for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(call_every_op, range(THREADS)))
    for mine, theirs in zip(found, expected, strict=True):
        assert_all_equal([each.detach() for each in mine], [each.detach() for each in theirs])
