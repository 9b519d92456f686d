"""Compare the adapter, forward and backward: ours, PEFT's layer, an `addmm_` Function, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from measure import Case
from peft import AdaLoraConfig
from peft.tuners.adalora.layer import SVDLinear as PeftSVDLinear
from shapes import RANK

from adalora_core import ops, reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPES = (
    (64, 768, 768),
    (512, 768, 768),
    (512, 768, 3072),
    (2048, 1024, 1024),
    (512, 4096, 4096),
    (512, 4096, 11008),
    (512, 11008, 4096),
)
GOAL = 1.3
LOW_PRECISION_SHAPES = 4
SCALE = 0.5


class AddmmFunction(torch.autograd.Function):
    """The fastest form with torch's own products: `addmm_` where dtypes allow it."""

    @staticmethod
    def forward(ctx: Any, base: Any, x: Any, A: Any, E: Any, B: Any) -> Any:
        """Add the adapter's product to `base` in place."""
        ctx.x_dtype = x.dtype
        x = x.to(A.dtype)
        hidden = x @ A.T
        if base.dtype == A.dtype:
            base.addmm_(hidden * E.T, B.T, alpha=SCALE)
        else:
            base.add_((hidden * E.T) @ B.T, alpha=SCALE)
        ctx.mark_dirty(base)
        ctx.save_for_backward(x, A, E, B, hidden)
        return base

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        """Return all gradients."""
        x, A, E, B, hidden = ctx.saved_tensors
        wide = grad.to(A.dtype)
        dZ = (wide @ B).mul_(SCALE)
        dH = dZ * E.T
        dB = wide.T @ (hidden * E.T).mul_(SCALE)
        dE = (dZ * hidden).sum(0).unsqueeze(1)
        return grad, (dH @ A).to(ctx.x_dtype), dH.T @ x, dE, dB


class FixedOutput(torch.nn.Linear):
    """A base layer that costs nothing but a fresh output, so that the adapter alone is measured."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return zeros."""
        return x.new_zeros(len(x), self.out_features)


def peft_layer(
    n_in: int, n_out: int, dtype: torch.dtype, factors_dtype: torch.dtype
) -> torch.nn.Module:
    """Return PEFT's adapted layer."""
    # adalora: ignore[ADA207, ADA210, ADA414] - one layer, which never allocates
    config = AdaLoraConfig(init_r=RANK, target_r=4, lora_alpha=6, total_step=10)
    base = FixedOutput(n_in, n_out, bias=False, dtype=dtype)
    layer = PeftSVDLinear(base, "default", config, r=RANK, lora_alpha=6)
    layer.set_adapter("default")
    for factor in "AEB":
        parameter = getattr(layer, f"lora_{factor}")["default"]
        parameter.data = parameter.data.to(factors_dtype)
    return layer


def contenders(
    tokens: int, n_in: int, n_out: int, dtype: torch.dtype, factors_dtype: torch.dtype
) -> dict[str, Any]:
    """Return the functions to compare on one shape."""
    x = torch.randn(tokens, n_in).to(dtype).requires_grad_()
    grad = torch.randn(tokens, n_out).to(dtype)
    layer = peft_layer(n_in, n_out, dtype, factors_dtype)
    A, E, B = (getattr(layer, f"lora_{factor}")["default"] for factor in "AEB")
    inputs = [x, A, E, B]

    def measured(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(function(x.new_zeros(tokens, n_out)), inputs, grad)

    compiled = torch.compile(reference.svd_linear)
    return {
        "ours": measured(lambda base: ops.svd_linear(base, *inputs, SCALE, inplace=True)),
        "peft": measured(lambda _: layer(x)),
        "compiled": measured(lambda base: compiled(base, *inputs, SCALE)),
        "addmm": measured(lambda base: AddmmFunction.apply(base, *inputs)),
    }


def cases() -> Iterator[Case]:
    """Yield every comparison of this op."""
    for shape in SHAPES:
        label = f"[{shape[0]} x {shape[1]} -> {shape[2]}] float32"
        functions = contenders(*shape, torch.float32, torch.float32)
        yield Case("svd_linear", label, functions, goal=GOAL)
        yield Case("svd_linear, addmm", label, functions, against="addmm", goal=1.0)
    yield from low_precision_cases("svd_linear")


def low_precision_cases(part: str) -> Iterator[Case]:
    """Yield the comparisons on a bfloat16 layer, with adapters of bfloat16 and of float32."""
    for shape in SHAPES[:LOW_PRECISION_SHAPES]:
        label = f"[{shape[0]} x {shape[1]} -> {shape[2]}] bfloat16"
        for dtype, ending in ((torch.bfloat16, ""), (torch.float32, ", float32 adapter")):
            functions = contenders(*shape, torch.bfloat16, dtype)
            yield Case(part, label + ending, functions)
            yield Case(
                part.replace("svd_linear", "svd_linear, addmm"), label + ending, functions,
                against="addmm", goal=1.0,
            )  # fmt: skip
