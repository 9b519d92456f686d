"""Build, train, save and load a small model with PEFT; the parts of every probe."""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SETTINGS: dict[str, Any] = {
    "target_modules": ["first", "second"],
    "init_r": 4,
    "target_r": 2,
    "tinit": 2,
    "tfinal": 5,
    "total_step": 30,
    "lora_alpha": 8,
}
BUDGET = 4
BRIDGED: list[bool] = []
"""Whether models of PEFT are bridged now."""


@dataclass(frozen=True)
class Probe:
    """One row: a feature, and a function of the library's name that raises without the feature.

    Attributes:
        feature: the row's name.
        run: the function.
        bridged: why the bridge does not have a feature of PEFT, or what to do instead.
    """

    feature: str
    run: Callable[[str], None]
    bridged: str = ""


@dataclass
class Output:
    """The output of the small model."""

    logits: torch.Tensor
    loss: torch.Tensor


class Small(nn.Module):
    """Two layers to adapt and a head."""

    def __init__(
        self, width: int = 8, *, second: nn.Module | None = None, use: bool = True
    ) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width) if second is None else second
        self.head = nn.Linear(width, 2)
        self.use = use

    def forward(self, x: torch.Tensor) -> Output:
        """Classify `x` by the sign of its first entry."""
        hidden = torch.relu(self.first(x))
        if self.use:
            hidden = torch.relu(self.second(hidden))
        logits = self.head(hidden)
        labels = (x[:, 0] > 0).long()
        return Output(logits, nn.functional.cross_entropy(logits, labels))


def llama(**changes: Any) -> Any:
    """Return a small language model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    sizes: dict[str, Any] = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 16}
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **changes})).eval()


@contextlib.contextmanager
def bridge() -> Iterator[None]:
    """Serve the models that PEFT makes, as the changed import does."""
    from adalora_core.bridge import install, uninstall

    install()
    BRIDGED.append(True)
    try:
        yield
    finally:
        BRIDGED.pop()
        uninstall()


def need(condition: bool, what: str) -> None:
    """Raise with `what` unless `condition` holds."""
    if not condition:
        raise AssertionError(what)


def make(library: str, base: nn.Module | None = None, **changes: Any) -> Any:
    """Return an adapted model."""
    module = importlib.import_module(library)
    torch.manual_seed(1)
    base = Small() if base is None else base
    return module.get_peft_model(base, module.AdaLoraConfig(**{**SETTINGS, **changes}))


def batch(step: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return inputs that depend only on the step."""
    return torch.randn(16, 8, generator=torch.Generator().manual_seed(step)).to(dtype)


def train(model: Any, steps: range = range(30), *, dtype: torch.dtype = torch.float32) -> Any:
    """Run the documented loop."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model.train()
    for step in steps:
        model(batch(step, dtype)).loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    return model


def load(library: str, folder: str | Path, base: nn.Module | None = None, **options: Any) -> Any:
    """Load an adapter onto a fresh base."""
    torch.manual_seed(1)
    cls = importlib.import_module(library).PeftModel
    return cls.from_pretrained(Small() if base is None else base, folder, **options)


def live_triplets(model: Any) -> int:
    """Return how many singular values are not zero."""
    return sum(int((p != 0).sum()) for name, p in model.named_parameters() if ".lora_E." in name)


def outputs(model: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return the logits of a fixed batch."""
    with torch.no_grad():
        return model.eval()(batch(99, dtype)).logits


def need_budget(model: Any) -> None:
    """Raise unless exactly the target budget is kept."""
    need(live_triplets(model) == BUDGET, "the number of kept triplets is not the budget")


def need_bridge() -> None:
    """Raise unless the models of PEFT are bridged: PEFT has no such function."""
    if not BRIDGED:
        raise NotImplementedError("no such function")


def need_equal(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-5) -> None:
    """Raise unless two outputs agree."""
    difference = (found - expected).abs().max().item()
    need(difference <= atol, "outputs differ")
