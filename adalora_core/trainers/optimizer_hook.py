"""Allocate ranks in custom training loops, by hooks of optimizers, those of DeepSpeed included."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

from torch.utils.hooks import RemovableHandle

from adalora_core.config.rules.runs import TwoHooks
from adalora_core.training.host import host_of
from adalora_core.training.parallelism import is_in_zero
from adalora_core.training.run.optimizers import show_step
from adalora_core.training.run.reporting import nothing_trainable, refuse

if TYPE_CHECKING:
    import torch

    from adalora_core.training.adapter import Adapter
    from adalora_core.training.host import Host


def allocate_on_step(optimizer: torch.optim.Optimizer, model: Any) -> RemovableHandle | ZeroHook:
    """Call `update_and_allocate` after every step of `optimizer`, with the right step number.

    The allocator counts the steps, so a resumed run continues at its step. Steps that a gradient
    scaler skips do not count, nor do micro-batches inside `accelerator.accumulate`. Call
    `model.finalize()` after training.

    Args:
        optimizer: an optimizer of torch, the result of `accelerator.prepare`, or DeepSpeed's engine
            with ZeRO-1 or ZeRO-2. Optimizers fused into the backward pass run no hooks.
        model: an `AdaLoraModel`, an attached model of PEFT, an attached module with injected
            adapters, or one of them in a wrapper for data-parallel training.

    Returns:
        The handle; `handle.remove()` removes the hook.

    Raises:
        TypeError: `model` is of another kind.
        RunError: no active adapter is trainable, `optimizer` does not hold all factors of the
            trained adapters, or a hook allocates their ranks already.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, allocate_on_step, get_peft_model
        >>> config = AdaLoraConfig(init_r=4, target_r=2, total_step=2, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> handle = allocate_on_step(optimizer, model)
        >>> for _ in range(2):
        ...     model(torch.ones(1, 4)).sum().backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> model.finalize()
        >>> sum(model.peft_config["default"].rank_pattern["0.lora_E.default"])
        2
    """
    tuner = host_of(model, "allocate_on_step")
    adapters = tuner.trained_adapters()
    if not adapters:
        raise nothing_trainable("allocate_on_step", tuner.active_adapters)
    for adapter in adapters:
        refuse_second_hook(adapter)
    if (zero := zero_optimizer(optimizer)) is not None:
        return ZeroHook(zero, tuner)
    # accelerate wraps the optimizer that makes the steps.
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    for adapter in adapters:
        adapter.refuse_optimizer(inner)

    def after_step(stepped: torch.optim.Optimizer, *_: Any) -> None:
        show_step(stepped)
        # After an overflow the scaler still calls a fused optimizer, which then does nothing.
        if getattr(stepped, "found_inf", None):
            return
        _allocate_next(tuner)

    handle = inner.register_step_post_hook(after_step)
    for adapter in adapters:
        adapter.run.driver = handle
    return handle


def _allocate_next(host: Host) -> None:
    """Call the allocators after the step that follows the last one they have seen."""
    allocators = [adapter.allocator for adapter in host.trained_adapters()]
    steps = [each.last_step for each in allocators if each and each.last_step is not None]
    host.update_and_allocate(max(steps, default=-1) + 1)


def refuse_second_hook(adapter: Adapter) -> None:
    """Refuse a second hook while one of `allocate_on_step` is registered.

    Raises:
        RunError: an optimizer that is still alive has the hook.
    """
    driver = adapter.run.driver
    if _is_registered(driver):
        refuse(
            TwoHooks,
            f"allocate_on_step allocates the ranks of the adapter {adapter.name!r} already",
        )


def _is_registered(driver: object) -> bool:
    if isinstance(driver, ZeroHook):
        return driver.is_registered
    return isinstance(driver, RemovableHandle) and driver.id in (driver.hooks_dict_ref() or {})


def zero_optimizer(optimizer: Any) -> Any:
    """Return DeepSpeed's optimizer that divides gradients, or None.

    Args:
        optimizer: that optimizer, DeepSpeed's engine, or the wrapper of `accelerator.prepare`.
    """
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

    Args:
        optimizer: DeepSpeed's optimizer, from `zero_optimizer`.
        tuner: allocates the ranks.
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
        return [
            factor
            for adapter in self._tuner.trained_adapters()
            for matrix in adapter.matrices()
            for place in (matrix.lora_A, matrix.lora_E, matrix.lora_B)
            if (factor := place[adapter.name]) is not None and factor.requires_grad
        ]

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
        _allocate_next(self._tuner)
        for adapter in self._tuner.trained_adapters():
            for matrix in adapter.matrices():
                values = matrix.lora_E[adapter.name]
                if values is not None:
                    safe_set_full_fp32_param(values, values.detach().float())
