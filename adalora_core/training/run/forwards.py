"""Refuse models and forwards of a training run that can only waste it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from adalora_core.contract.rules import runs
from adalora_core.errors import RunError
from adalora_core.nn import AdaLoraLayer
from adalora_core.training.run.reporting import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn


def refuse_adapted(model: nn.Module) -> None:
    """Refuse a base model that carries adapters of this package or of PEFT.

    Raises:
        RunError: some module is an adapted layer, or the model of an adapter.
    """
    for path, module in model.named_modules():
        is_adapted = isinstance(module, AdaLoraLayer) and len(module.lora_A) > 0
        # By name, since PEFT need not be installed.
        if is_adapted or type(module).__module__.partition(".")[0] == "peft":
            refuse(
                runs.ADAPTED_TWICE,
                f"the base model {type(model).__name__} carries adapters already: "
                f"{path or 'it'} is of type {type(module).__name__}",
            )
            return


def refuse_adapter_names(arguments: Mapping[str, Any]) -> None:
    """Refuse a batch that mixes adapters.

    Raises:
        RunError: `adapter_names` is given.
    """
    if arguments.get("adapter_names") is not None:
        refuse(runs.ADAPTER_NAMES, "forward got adapter_names, which AdaLoRA does not support")


def refuse_wasted_forward(tuner: Any, values: Sequence[Any]) -> None:
    """Refuse a forward that trains nothing: the adapter is merged, or nothing is trainable.

    Args:
        tuner: a tuner of this package, or of an attached model of PEFT.
        values: arguments of the forward; one that needs a gradient may be what is trained.

    Raises:
        RunError: the loss of this forward could not train the adapter.
    """
    if not tuner.training or not torch.is_grad_enabled():
        return
    adapters = tuner.trained_adapters()
    for adapter in adapters:
        layer: Any = next(iter(adapter.layers.values()), None)
        if layer is not None and layer.merged_adapters:
            refuse(
                runs.TRAINING_WHILE_MERGED,
                f"training forward while the adapter {layer.merged_adapters[0]!r} is merged",
            )
    if adapters or any(isinstance(each, torch.Tensor) and each.requires_grad for each in values):
        return
    if not any(each.requires_grad for each in tuner.model.parameters()):
        refuse(
            runs.NOTHING_TRAINABLE,
            f"forward in training mode, and none of the active adapters {tuner.active_adapters} "
            "is trainable, nor any other parameter",
        )


def nothing_trainable(purpose: str, active: Sequence[str]) -> RunError:
    """Return the error of a call that needs a trainable adapter."""
    return RunError(
        f"{runs.NOTHING_TRAINABLE.code}: {purpose}: none of the active adapters {list(active)} is "
        f"trainable. To do: {runs.NOTHING_TRAINABLE.hint}"
    )
