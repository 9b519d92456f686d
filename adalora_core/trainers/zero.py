"""Allocate ranks around the steps of DeepSpeed's optimizers, ZeRO-1 and ZeRO-2."""

from __future__ import annotations

import sys
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from adalora_core.training.host import Host, allocate_next
from adalora_core.training.parallelism import is_in_zero
from adalora_core.training.run.watch import show_step

if TYPE_CHECKING:
    import torch


def zero_optimizer(optimizer: Any) -> Any:
    """Return DeepSpeed's optimizer that divides gradients, in its engine or a wrapper, or None."""
    module = sys.modules.get("deepspeed.runtime.base_optimizer")
    if module is None:
        return None
    for each in (optimizer, getattr(optimizer, "optimizer", None)):
        if isinstance(each, module.ZeROOptimizer):
            return each
    return None


class ZeroHook:
    """Calls the allocator around each step of an optimizer of ZeRO-1 or ZeRO-2.

    The whole gradients exist for a moment only: after the last micro-batch and before the step. The
    hook gathers those of the factors there, one all-reduce for each factor, in its size. After the
    step the averages are computed from the gradients as the step used them, unscaled and clipped.
    The optimizer keeps its own copy of the factors in float32, so the zeros of dropped triplets are
    written there too. Until the step the hook holds the gradients of the factors once more.
    """

    gathers_gradients = True

    def __init__(self, optimizer: Any, tuner: Host) -> None:
        self._optimizer = optimizer
        self._tuner = tuner
        self._step = optimizer.step
        optimizer.step = self._step_and_allocate
        for adapter in tuner.trained_adapters():
            adapter.run.driver = self

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The factors that the optimizer trains: its own groups hold flat parts of all of them."""
        return [{"params": [each for each in self._factors() if is_in_zero(each)]}]

    @property
    def is_registered(self) -> bool:
        """Whether the optimizer still calls the hook."""
        return bool(vars(self._optimizer).get("step") == self._step_and_allocate)

    def remove(self) -> None:
        """Remove the hook; the gradients of the factors are hidden again."""
        if self.is_registered:
            del self._optimizer.step
        for adapter in self._tuner.trained_adapters():
            if adapter.run.driver is self:
                adapter.run.driver = None

    def _factors(self) -> list[torch.nn.Parameter]:
        factors = (each.parameters() for each in self._tuner.trained_adapters())
        return [each for each in chain.from_iterable(factors) if each.requires_grad]

    def _step_and_allocate(self, *args: Any, **kwargs: Any) -> Any:
        from deepspeed.utils import safe_get_full_grad

        factors = self._factors()
        gradients = [safe_get_full_grad(each) for each in factors]
        scale = float(self._optimizer.loss_scale)
        result = self._step(*args, **kwargs)
        if getattr(self._optimizer, "overflow", False):
            return result
        factor = 1 / (scale * self._clipped_by())
        for parameter, gradient in zip(factors, gradients, strict=True):
            parameter.grad = None if gradient is None else (gradient * factor).to(parameter.dtype)
        try:
            self._allocate()
        finally:
            for parameter in factors:
                parameter.grad = None
        return result

    def _clipped_by(self) -> float:
        """Return the number that the step has divided all gradients by, to clip their norm."""
        largest = getattr(self._optimizer, "clip_grad", 0.0)
        norm = getattr(self._optimizer, "_global_grad_norm", None)
        return max(1.0, (float(norm) + 1e-6) / largest) if largest and norm is not None else 1.0

    def _allocate(self) -> None:
        from deepspeed.utils import safe_set_full_fp32_param

        show_step(cast("torch.optim.Optimizer", self))  # only its groups are read
        allocate_next(self._tuner)
        for adapter in self._tuner.trained_adapters():
            for matrix in adapter.matrices():
                values = matrix.lora_E[adapter.name]
                if values is not None:
                    safe_set_full_fp32_param(values, values.detach().float())
