"""What PEFT's own AdaLoRA tests assert, on the four models that they assert it on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from adalora_runs import SETTINGS
from torch import nn

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model

if TYPE_CHECKING:
    from pathlib import Path


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin0 = nn.Linear(10, 20)
        self.lin1 = nn.Linear(20, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lin1(torch.relu(self.lin0(x)))


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv2d = nn.Conv2d(5, 10, 3)
        self.lin0 = nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        image = x.reshape(-1, 5, 3, 3)
        return self.lin0(torch.relu(self.conv2d(image)).flatten(1))


ROWS = [
    pytest.param(Mlp, ["lin0"], id="linear"),
    pytest.param(Mlp, ["lin0", "lin1"], id="two-linear"),
    pytest.param(Convolutional, ["conv2d"], id="conv2d"),
    pytest.param(Convolutional, ["conv2d", "lin0"], id="conv2d-and-linear"),
]
pytestmark = pytest.mark.parametrize(("kind", "targets"), ROWS)


def base_of(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(2)
    return kind().eval()


def inputs(kind: type[nn.Module]) -> torch.Tensor:
    return torch.randn(4, 10 if kind is Mlp else 45, generator=torch.Generator().manual_seed(3))


def config(targets: list[str], **changes: Any) -> AdaLoraConfig:
    # Small factors that act at once: PEFT's rows set init_lora_weights to false.
    return AdaLoraConfig(
        **{**SETTINGS, "target_modules": targets, "init_lora_weights": False, **changes}
    )


def adapted(kind: type[nn.Module], targets: list[str], **changes: Any) -> Any:
    return get_peft_model(base_of(kind), config(targets, **changes)).eval()


def test_default_initialisation_is_the_identity(kind: Any, targets: list[str]) -> None:
    model = adapted(kind, targets, init_lora_weights=True)
    torch.testing.assert_close(model(inputs(kind)), base_of(kind)(inputs(kind)))


def test_other_initialisation_changes_the_output(kind: Any, targets: list[str]) -> None:
    model = adapted(kind, targets)
    assert not torch.allclose(model(inputs(kind)), base_of(kind)(inputs(kind)), atol=1e-3)


@pytest.mark.parametrize("low_memory", [False, True])
def test_saved_and_loaded_gives_the_same_output(
    kind: Any, targets: list[str], low_memory: bool, tmp_path: Path
) -> None:
    model = adapted(kind, targets)
    model.save_pretrained(tmp_path)
    loaded = AdaLoraModel.from_pretrained(base_of(kind), tmp_path, low_cpu_mem_usage=low_memory)
    assert torch.equal(loaded(inputs(kind)), model(inputs(kind)))
    assert not any(each.requires_grad for each in loaded.parameters())
    trainable = AdaLoraModel.from_pretrained(base_of(kind), tmp_path, is_trainable=True)
    learning = {name for name, each in trainable.named_parameters() if each.requires_grad}
    assert learning
    assert all(".lora_" in name for name in learning)


def test_only_the_factors_move_in_training(kind: Any, targets: list[str]) -> None:
    model = adapted(kind, targets).train()
    before = {name: each.detach().clone() for name, each in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        model(inputs(kind)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, each in model.named_parameters() if not torch.equal(each, before[name])}
    assert moved == {name for name in before if ".lora_" in name}


@pytest.mark.parametrize("safe", [False, True])
def test_merged_unmerged_and_unloaded(kind: Any, targets: list[str], safe: bool) -> None:
    model = adapted(kind, targets)
    x = inputs(kind)
    expected = model(x).detach()
    tolerance = {"atol": 1e-4 * expected.abs().max().item(), "rtol": 1e-4}
    model.merge_adapter(safe_merge=safe)
    torch.testing.assert_close(model(x), expected, **tolerance)
    model.unmerge_adapter()
    torch.testing.assert_close(model(x), expected, **tolerance)
    merged = model.merge_and_unload(safe_merge=safe)
    assert type(merged) is kind
    torch.testing.assert_close(merged(x), expected, **tolerance)


def test_disabled_and_deleted_adapters_do_not_act(kind: Any, targets: list[str]) -> None:
    model = adapted(kind, targets)
    x = inputs(kind)
    plain = base_of(kind)(x)
    adapted_output = model(x)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), plain)
    assert torch.equal(model(x), adapted_output)
    model.delete_adapter("default")
    torch.testing.assert_close(model(x), plain)


def test_two_adapters_switch_whatever_their_names(kind: Any, targets: list[str]) -> None:
    model = adapted(kind, targets)
    x = inputs(kind)
    first = model(x)
    model.add_adapter(targets[0], config(targets))
    model.set_adapter(targets[0])
    second = model.eval()(x)
    assert not torch.allclose(first, second, atol=1e-3)
    model.set_adapter("default")
    assert torch.equal(model(x), first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_models_run_and_merge(
    kind: Any, targets: list[str], dtype: torch.dtype
) -> None:
    model = get_peft_model(base_of(kind).to(dtype), config(targets)).eval()
    x = inputs(kind).to(dtype)
    assert model(x).dtype is dtype
    assert model.merge_and_unload()(x).dtype is dtype
