"""One training loop for PEFT and for us, as PEFT documents it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import peft
import torch
from torch import nn
from toy_models import TwoLayer, two_layer_batch

import adalora_core
from adalora_core import bridge
from adalora_core.config.findings import ConfigWarning
from adalora_core.training.host import host_of


class Attached:
    """PEFT's names, for models that are then attached."""

    AdaLoraConfig = peft.AdaLoraConfig

    @staticmethod
    def get_peft_model(base: nn.Module, config: peft.AdaLoraConfig) -> peft.PeftModel:
        """Return PEFT's model, attached."""
        return bridge.attach(peft.get_peft_model(base, config))

    @staticmethod
    def from_pretrained(base: nn.Module, folder: Path, **options: Any) -> peft.PeftModel:
        """Return the model that PEFT loads while the bridge is installed."""
        bridge.install()
        try:
            return bridge.attach(peft.PeftModel.from_pretrained(base, folder, **options))
        finally:
            bridge.uninstall()


class Injected:
    """PEFT's names, for modules that adapters are injected into, and that are then attached."""

    AdaLoraConfig = peft.AdaLoraConfig

    @staticmethod
    def get_peft_model(base: nn.Module, config: peft.AdaLoraConfig) -> nn.Module:
        """Return the module, attached."""
        return bridge.attach(peft.inject_adapter_in_model(config, base))


LIBRARIES = {"peft": peft, "adalora_core": adalora_core, "attached": Attached}
LOADERS = {"peft": peft.PeftModel, "adalora_core": adalora_core.AdaLoraModel, "attached": Attached}
OURS = ["adalora_core", "attached"]
"""What has our allocator: models of ours, and models of PEFT that are attached."""


SETTINGS: dict[str, Any] = {
    "target_modules": ["first", "second"],
    "init_r": 12,
    "target_r": 8,
    "tinit": 2,
    "tfinal": 5,
    "total_step": 30,
    "lora_alpha": 16,
}
TARGET_BUDGET = 16


def make(library: str, base: nn.Module | None = None, **changes: Any) -> Any:
    """Return a model with an adapter, made by `library`: a key of LIBRARIES, or "injected"."""
    module = LIBRARIES.get(library, Injected)
    with warnings.catch_warnings():
        # Advice about schedules as short as a test's.
        warnings.simplefilter("ignore", ConfigWarning)
        config = module.AdaLoraConfig(**{**SETTINGS, **changes})
    return module.get_peft_model(TwoLayer() if base is None else base, config)


def optimizer_of(model: nn.Module, lr: float = 1e-2) -> torch.optim.Optimizer:
    """Return AdamW over what is trained."""
    return torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=lr)


def end_step(model: Any, optimizer: torch.optim.Optimizer, step: int) -> None:
    """End a step after its backward pass, as the documented loop does."""
    optimizer.step()
    model.update_and_allocate(step)
    optimizer.zero_grad()


def train(
    model: Any,
    steps: Iterable[int],
    *,
    optimizer: torch.optim.Optimizer | None = None,
    before_step: Callable[[int, nn.Module], bool] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Run the documented loop; `before_step` may spoil gradients, True skips the step."""
    optimizer = optimizer or optimizer_of(model)
    model.train()
    for step in steps:
        batch = two_layer_batch(step)
        batch["x"] = batch["x"].to(dtype or batch["x"].dtype)
        model(**batch).loss.backward()
        skipped = before_step is not None and before_step(step, model)
        if not skipped:
            optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()


def weaken_second(_: int, model: Any) -> bool:
    """Let the second layer of `TwoLayer` lose all of its triplets; see `before_step`."""
    for factor in "AEB":
        getattr(model.base_model.model.second, f"lora_{factor}")["default"].grad.mul_(1e-3)
    return False


def load_again(model: Any, folder: Path) -> None:
    """Give the adapter that `model` trains the values and the training state of `folder`."""
    if isinstance(model, adalora_core.AdaLoraModel):
        adalora_core.AdaLoraModel.from_pretrained(model, folder, is_trainable=True)
    else:
        model.load_adapter(folder, "default", is_trainable=True)


def final_ranks(model: Any) -> list[int]:
    """Return the kept triplets per matrix."""
    pattern = model.peft_config["default"].rank_pattern
    return [sum(kept) for kept in pattern.values()]


def allocator_of(model: Any) -> Any:
    """Return the allocator of the only trained adapter."""
    return host_of(model, "a test").trained_adapters()[0].allocator


def factors(model: Any, kinds: str = "AEB") -> list[Any]:
    """Return the factors of some kinds, in the order of the matrices."""
    named = [(name, each) for name, each in model.named_parameters() if ".lora_" in name]
    return [each for name, each in named if name.split(".lora_")[1][0] in kinds]


def singular_values(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return E of every matrix."""
    return {name: each for name, each in model.named_parameters() if ".lora_E." in name}


def live_ranks(model: nn.Module) -> list[int]:
    """Return how many singular values of each matrix are not zero."""
    return [int((values != 0).sum()) for values in singular_values(model).values()]
