"""The memory of the penalty's gradients is used again, and never while anybody holds a gradient."""

from __future__ import annotations

import functools
import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from adalora_core import ops
from adalora_core.ops import orthogonality

pytestmark = pytest.mark.cpu_core

SHAPES = [(4, 50), (3, 70), (4, 50)]


def factors(seed: int = 0) -> list[nn.Parameter]:
    """Return every A, then every B."""
    chance = torch.Generator().manual_seed(seed)
    As = [nn.Parameter(torch.randn(shape, generator=chance)) for shape in SHAPES]
    return [*As, *(nn.Parameter(torch.randn(shape[::-1], generator=chance)) for shape in SHAPES)]


def penalty(made: list[nn.Parameter]) -> torch.Tensor:
    return ops.orthogonality_penalty(made[: len(made) // 2], made[len(made) // 2 :])


def gradients(made: list[nn.Parameter]) -> list[torch.Tensor]:
    return list(torch.autograd.grad(penalty(made), made))


def expected(made: list[nn.Parameter]) -> list[torch.Tensor]:
    """Return the gradients of copies, whose memory is another."""
    return gradients([nn.Parameter(each.detach().clone()) for each in made])


def take_steps(made: list[nn.Parameter], steps: int = 4) -> None:
    """Compute other gradients, and forget them."""
    for _ in range(steps):
        with torch.no_grad():
            for each in made:
                each.mul_(1.5)
        penalty(made).backward()  # type: ignore[no-untyped-call] # torch types it loosely
        for each in made:
            each.grad = None


def test_memory_that_nobody_holds_is_used_again() -> None:
    made = factors()
    addresses = set()
    for _ in range(5):
        penalty(made).backward()  # type: ignore[no-untyped-call] # torch types it loosely
        addresses.add(made[0].grad.data_ptr())  # type: ignore[union-attr] # backward has set it
        for each in made:
            each.grad = None
    assert len(addresses) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_every_dtype_gets_memory(dtype: torch.dtype) -> None:
    made = [nn.Parameter(each.detach().to(dtype)) for each in factors()]
    for _ in range(2):
        assert {each.dtype for each in gradients(made)} == {dtype}


def graph_of(gradient: torch.Tensor) -> Callable[[], Any]:
    """Save the gradient for the backward pass of a product."""
    factor = torch.ones(1, requires_grad=True)
    product = gradient * factor
    del gradient
    return lambda: torch.autograd.grad(product.sum(), factor)[0]


# For each, a function that returns how the holder reads the values.
HOLDERS: dict[str, Callable[[torch.Tensor], Callable[[], Any]]] = {
    "the gradient": lambda gradient: gradient.clone,
    "a view": lambda gradient: gradient[1:2].clone,
    "a detached alias": lambda gradient: gradient.detach().clone,
    "the whole block": lambda gradient: gradient._base.clone,  # type: ignore[union-attr] # a view has one
    "its storage": lambda gradient: gradient.untyped_storage().tolist,
    "an array": lambda gradient: gradient.numpy().copy,
    "a DLPack capsule": lambda gradient: functools.partial(
        torch.from_dlpack, gradient.__dlpack__()
    ),
    "a graph": graph_of,
    "shared memory": lambda gradient: gradient.share_memory_().clone,
}


@pytest.mark.parametrize("name", HOLDERS)
def test_a_held_gradient_is_never_overwritten(name: str) -> None:
    made = factors()
    before = HOLDERS[name](expected(made)[2])()
    read = HOLDERS[name](gradients(made)[2])
    take_steps(made)
    assert torch.equal(torch.as_tensor(read()), torch.as_tensor(before))


def test_gradients_kept_past_zero_grad_stay() -> None:
    made = factors()
    optimizer = torch.optim.SGD(made, lr=0.1)
    kept, copies = [], []
    for _ in range(4):
        penalty(made).backward()  # type: ignore[no-untyped-call] # torch types it loosely
        kept.append([each.grad for each in made])
        copies.append([each.grad.clone() for each in made if each.grad is not None])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for one, other in zip(kept, copies, strict=True):
        assert all(map(torch.equal, one, other))


def test_gradients_that_accumulate_are_their_sum() -> None:
    made = factors()
    total = [torch.zeros_like(each) for each in made]
    for _ in range(3):
        torch._foreach_add_(total, [2 * each + 3 for each in expected(made)])
        # The engine adds two gradients in a pass, and the sum to that of the pass before.
        loss = torch.stack([(3 * each).sum() for each in made]).sum()
        (loss + penalty(made) * 2).backward()
    for each, one in zip(made, total, strict=True):
        torch.testing.assert_close(each.grad, one)


def test_hooks_that_keep_or_replace_gradients_see_their_values() -> None:
    made = factors()
    bucket = torch.zeros(sum(each.numel() for each in made))
    views = [
        view.view_as(each)
        for view, each in zip(bucket.split([each.numel() for each in made]), made, strict=True)
    ]
    seen: list[torch.Tensor] = []

    def reduce(index: int) -> Any:
        def hook(parameter: torch.Tensor) -> None:
            # As DDP does: the gradient becomes a view of a bucket that all processes sum.
            views[index].copy_(parameter.grad)  # type: ignore[arg-type] # the hook follows it
            parameter.grad = views[index]

        return hook

    for index, each in enumerate(made):
        each.register_hook(seen.append)
        each.register_post_accumulate_grad_hook(reduce(index))
    copies: list[torch.Tensor] = []
    for _ in range(3):
        wanted = expected(made)
        for each in made:
            each.grad = None
        penalty(made).backward()  # type: ignore[no-untyped-call] # torch types it loosely
        copies += wanted
        assert all(map(torch.equal, views, wanted))
        with torch.no_grad():
            for each in made:
                each.mul_(0.9)
    by_value = sorted(float(each.sum()) for each in copies)
    assert sorted(float(each.sum()) for each in seen) == by_value


@pytest.mark.parametrize("share", [True, False])
def test_threads_never_write_into_each_others_gradients(share: bool) -> None:
    shared = factors()
    faults: list[str] = []

    def work(seed: int) -> None:
        made = shared if share else factors(seed)
        wanted = expected(made)
        kept: list[list[torch.Tensor]] = []
        for index in range(60):
            kept.append(gradients(made))
            if index % 3 == seed % 3:
                del kept[: len(kept) // 2]
            if not all(
                torch.equal(*pair) for one in kept for pair in zip(one, wanted, strict=True)
            ):
                faults.append(f"thread {seed}, step {index}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert faults == []


def test_the_memory_goes_with_the_factors() -> None:
    gc.collect()
    before = len(orthogonality._unused)
    made = factors()
    held = gradients(made)
    copies = [each.clone() for each in held]
    assert len(orthogonality._unused) == before + 1
    del made
    gc.collect()
    assert len(orthogonality._unused) == before
    assert all(map(torch.equal, held, copies))


def test_factors_without_entries_need_no_memory() -> None:
    made = [nn.Parameter(torch.empty(0, 5)), nn.Parameter(torch.empty(4, 0))]
    assert [each.shape for each in gradients(made)] == [(0, 5), (4, 0)]
