"""How far an op may be from its float64 oracle, relative to its largest entry, and why."""

from __future__ import annotations

from collections.abc import Iterable

import torch

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
RELATIVE = {
    # sums of up to a few thousand products, rounded in another order
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    # inputs and results are rounded to 8 bits; sums run in float32
    torch.bfloat16: 2e-2,
    # the same with 11 bits
    torch.float16: 3e-3,
}


def coarser(*dtypes: torch.dtype) -> torch.dtype:
    """Return the one with the largest tolerance: that of a product of all of them."""
    return max(dtypes, key=RELATIVE.__getitem__)


def assert_close(actual: torch.Tensor, oracle: torch.Tensor, dtype: torch.dtype) -> None:
    """Compare with an oracle that was computed in float64 from the same rounded inputs."""
    assert actual.shape == oracle.shape
    if oracle.numel() == 0:
        return
    worst = (actual.double() - oracle.double()).abs().max().item()
    size = max(oracle.double().abs().max().item(), 1e-3)
    assert worst <= RELATIVE[dtype] * size, f"off by {worst:.3g} where the largest is {size:.3g}"


def assert_all_close(
    found: Iterable[torch.Tensor], oracles: Iterable[torch.Tensor], dtype: torch.dtype
) -> None:
    """Compare tensors one by one with their oracles."""
    for actual, oracle in zip(found, oracles, strict=True):
        assert_close(actual, oracle, dtype)


def assert_all_equal(found: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> None:
    """Compare tensors bit by bit."""
    for actual, wanted in zip(found, expected, strict=True):
        assert torch.equal(actual, wanted), f"{actual} is not {wanted}"
