"""Start adapters of PEFT like LoRA, where `init_lora_weights` is "lora"."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from adalora_core.adapter_spec import LORA_START
from adalora_core.errors import ParallelismError
from adalora_core.integrations.peft.layers import LORA_STARTS, adalora_layers, draw_lora_start
from adalora_core.sharding import are_sharded, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from adalora_core.training.host import Host


@contextlib.contextmanager
def injecting(model: nn.Module, name: str, config: Any) -> Iterator[None]:
    """Let PEFT inject the adapter `name` into `model`, and give it the start of `config`.

    Of an adapter that starts like LoRA the draws of PEFT leave no trace in the generator.
    """
    _mark(model, name, like_lora=False)  # while PEFT injects, its draws are its own
    if not _is_like_lora(config):
        yield
        return
    device = torch.get_default_device()
    others = [] if device.type in {"cpu", "meta"} else [device]
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        yield
    _mark(model, name, like_lora=True)
    _draw_all(model, name)


def start_fresh_adapters(tuner: Host, configs: dict[str, Any]) -> None:
    """Give adapters that PEFT has made, and nobody has trained or loaded, the start of LoRA.

    Raises:
        ParallelismError: such an adapter is divided over processes; nothing was changed.
    """
    like_lora = {name: each for name, each in configs.items() if _is_like_lora(each)}
    fresh = [name for name, config in like_lora.items() if _is_fresh(tuner, name, config)]
    for name in fresh:
        E = _singular_values(tuner.model, name)
        if are_sharded(E) or any(hasattr(each, "ds_id") for each in E):
            raise ParallelismError(
                f"attach: the adapter {name!r} is divided over processes already, and has to be "
                f'drawn anew, since its init_lora_weights is "{LORA_START}"; attach the model, '
                "then divide it"
            )
    for name in like_lora:
        _mark(tuner.model, name, like_lora=True)
        if name in fresh:
            _draw_all(tuner.model, name)


def _is_like_lora(config: Any) -> bool:
    return bool(config.init_lora_weights == LORA_START)


def _is_fresh(tuner: Host, name: str, config: Any) -> bool:
    """Return whether an adapter is as PEFT makes it; divided E are gathered."""
    if config.inference_mode or config.rank_pattern:
        return False
    allocator: Any = vars(tuner).get("rankallocator")
    if getattr(allocator, "adapter_name", None) == name and allocator.ipt:
        return False
    return not any(
        not each.is_meta and whole(each).any() for each in _singular_values(tuner.model, name)
    )


def _singular_values(model: nn.Module, name: str) -> list[torch.Tensor]:
    return [each.lora_E[name] for _, each in adalora_layers(model) if name in each.lora_E]


def _mark(model: nn.Module, name: str, *, like_lora: bool) -> None:
    for _, layer in adalora_layers(model):
        layer.__dict__.setdefault(LORA_STARTS, {})[name] = like_lora


def _draw_all(model: nn.Module, name: str) -> None:
    for _, layer in adalora_layers(model):
        if name in layer.lora_A:
            draw_lora_start(layer, name)
