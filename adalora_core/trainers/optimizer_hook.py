"""Allocate ranks by hooks of optimizers, those of DeepSpeed's ZeRO-1 and ZeRO-2 included."""

from __future__ import annotations

import sys
from itertools import chain
from typing import Any, cast

import torch
from torch.utils.hooks import RemovableHandle

from adalora_core.config.rules.runs import ScheduleDoesNotFit, TwoHooks
from adalora_core.training.adapter import Adapter
from adalora_core.training.host import Host, allocate_next, host_of, learning_adapters
from adalora_core.training.parallelism import is_in_zero
from adalora_core.training.run import automatic
from adalora_core.training.run.optimizers import show_step
from adalora_core.training.run.reporting import refusal, refuse
from adalora_core.training.tuner import AdaLoraTuner


def allocate_automatically(enabled: bool, model: object = None) -> None:
    """Set whether the package calls `update_and_allocate` where nobody does; it does by default.

    Turn it off where a script trains an adapter whose ranks must stay as they are.

    Args:
        enabled: whether it does.
        model: the model that this is for, as for `allocate_on_step`; None means every model of the
            process that has no setting of its own.

    Raises:
        TypeError: `model` is of another kind.

    Example:
        >>> import adalora_core
        >>> adalora_core.allocate_automatically(True)
    """
    if model is None:
        automatic.enable(enabled)
    else:
        host_of(model, "allocate_automatically").training_run.allocates_automatically = enabled


def allocate_on_step(optimizer: torch.optim.Optimizer, model: object) -> RemovableHandle | ZeroHook:
    """Call `update_and_allocate` after every step of `optimizer`, with the right step number.

    The allocator counts the steps, so a resumed run continues at its step. Steps that a gradient
    scaler skips do not count, nor do micro-batches inside `accelerator.accumulate`. Call
    `model.finalize()` after training.

    Args:
        optimizer: an optimizer of torch, the result of `accelerator.prepare`, or, for a model of
            PEFT, DeepSpeed's engine with ZeRO-1 or ZeRO-2. Optimizers fused into the backward pass
            run no hooks.
        model: an `AdaLoraModel`, an attached model of PEFT, an attached module with injected
            adapters, or one of them in a wrapper for data-parallel training.

    Returns:
        The handle; `handle.remove()` removes the hook.

    Raises:
        TypeError: `model` is of another kind, or an `AdaLoraModel` under ZeRO.
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
    adapters = learning_adapters(tuner, "allocate_on_step")
    for adapter in adapters:
        refuse_second_hook(adapter)
    if (zero := zero_optimizer(optimizer)) is not None:
        return ZeroHook(zero, host_in_peft(model, "allocate_on_step with DeepSpeed's ZeRO"))
    # accelerate wraps the optimizer that makes the steps.
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    for adapter in adapters:
        adapter.refuse_optimizer(inner)

    def after_step(stepped: torch.optim.Optimizer, *_: Any) -> None:
        show_step(stepped)
        # After an overflow the scaler still calls a fused optimizer, which then does nothing.
        if getattr(stepped, "found_inf", None):
            return
        allocate_next(tuner)

    handle = inner.register_step_post_hook(after_step)
    for adapter in adapters:
        adapter.run.driver = handle
    return handle


def bind_total_step(host: Host, steps: int, trainer: str) -> None:
    """Replace a `total_step` of "auto" by the `steps` of `trainer`, and report another number."""
    host.bind_total_step(steps)
    for adapter in host.trained_adapters():
        if adapter.spec.total_step != steps:
            has = f"total_step of the adapter {adapter.name!r} is {adapter.spec.total_step}"
            seen = f"{trainer} makes {steps} optimizer steps, and {has}"
            adapter.run.report(ScheduleDoesNotFit, seen)


def host_in_peft(model: object, purpose: str) -> Host:
    """Return the tuner of a model of PEFT; a TypeError for a model of this package."""
    host = host_of(model, purpose)
    if isinstance(host, AdaLoraTuner):
        raise TypeError(refusal(purpose))
    return host


def refuse_second_hook(adapter: Adapter) -> None:
    """Refuse a second hook while an optimizer that is still alive has one of `allocate_on_step`."""
    driver: Any = adapter.run.driver
    hooks = driver.hooks_dict_ref() if isinstance(driver, RemovableHandle) else None
    if (hooks and driver.id in hooks) or (isinstance(driver, ZeroHook) and driver.is_registered):
        ranks = f"the ranks of the adapter {adapter.name!r}"
        refuse(TwoHooks, f"allocate_on_step allocates {ranks} already")


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
