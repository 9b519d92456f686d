"""Divide what a model trains into two groups of an optimizer, so that E learns faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def factor_groups(
    model: nn.Module, lr: float, *, singular_values: float = 16
) -> list[dict[str, Any]]:
    """Return two parameter groups: what `model` trains but E, and E with a larger learning rate.

    Adam moves each number by about its learning rate. E has one number per triplet, and A and B
    have hundreds, so that with PEFT's start, E = 0, the adapter hardly moves at first. With
    `init_lora_weights="lora"` no group is needed.

    Args:
        model: a model with an AdaLoRA adapter, of this package or of PEFT, wrapped or not.
        lr: learning rate of A, B, and whatever else is trained: heads, `modules_to_save`, biases.
        singular_values: how many times `lr` the learning rate of E is.

    Raises:
        ValueError: `model` has no AdaLoRA adapter that is trained, or `singular_values` is not
            above 0.

    Example:
        >>> import torch
        >>> from adalora_core import AdaLoraConfig, factor_groups, get_peft_model
        >>> config = AdaLoraConfig(total_step=10, target_modules=["0"])
        >>> model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
        >>> optimizer = torch.optim.AdamW(factor_groups(model, lr=1e-3))
        >>> [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]
        [(2, 0.001), (1, 0.016)]
    """
    if not singular_values > 0:
        raise ValueError(f"singular_values: expected a number above 0, got {singular_values!r}")
    trained = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    E = [each for name, each in trained if "lora_E" in name.split(".")]
    if not E:
        raise ValueError(
            f"factor_groups: expected a model with an AdaLoRA adapter that is trained, got "
            f"{type(model).__name__} without a trainable lora_E; adapt it with get_peft_model "
            "first, or load its adapter with is_trainable=True"
        )
    others = [each for name, each in trained if "lora_E" not in name.split(".")]
    return [{"params": others, "lr": lr}, {"params": E, "lr": lr * singular_values}]
