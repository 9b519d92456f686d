"""Allocate ranks in custom training loops, by hooks of optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.hooks import RemovableHandle

from adalora_core.config.rules.runs import ScheduleDoesNotFit, TwoHooks
from adalora_core.trainers.zero import ZeroHook, zero_optimizer
from adalora_core.training.host import Host, allocate_next, host_of, learning_adapters
from adalora_core.training.names_of_peft import refusal
from adalora_core.training.run import automatic
from adalora_core.training.run.reporting import refuse
from adalora_core.training.run.watch import show_step
from adalora_core.training.tuner import AdaLoraTuner

if TYPE_CHECKING:
    import torch

    from adalora_core.training.adapter import Adapter


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
            adapter.run.report(
                ScheduleDoesNotFit,
                f"{trainer} makes {steps} optimizer steps, and total_step of the adapter "
                f"{adapter.name!r} is {adapter.spec.total_step}",
            )


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
        refuse(
            TwoHooks,
            f"allocate_on_step allocates the ranks of the adapter {adapter.name!r} already",
        )
