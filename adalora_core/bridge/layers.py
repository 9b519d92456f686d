"""Override PEFT's adapted layers: the ops of this package, and a scale that does not change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.adalora import bnb, gptq
from peft.tuners.adalora import layer as dense
from peft.tuners.adalora.layer import AdaLoraLayer
from torch import nn

from adalora_core.config.rules.runs import MergedStateLoaded
from adalora_core.floor.adapter_spec import LORA_START, scale_of
from adalora_core.floor.errors import ParallelismError
from adalora_core.nn import adapter_layer
from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES, Product, dropout_of
from adalora_core.nn.svd_conv2d import plus_convolutions
from adalora_core.nn.svd_linear import adapted_output
from adalora_core.nn.wrapping import may_keep_output
from adalora_core.ops._portable.svd_linear import without_autocast
from adalora_core.sharding import are_sharded, whole
from adalora_core.training.host import Host
from adalora_core.training.run.reporting import report

INITIAL_RANKS = "_adalora_initial_ranks"
"""Attribute of a bridged layer: `{adapter: init_r}`, the divisor of its scale."""

if TYPE_CHECKING:
    _Layer = AdaLoraLayer
else:
    _Layer = object

LORA_STARTS = "_adalora_lora_starts"
"""Attribute of a bridged layer: `{adapter: whether it starts like LoRA}`."""

_peft_move = AdaLoraLayer._move_adapter_to_device_of_base_layer  # noqa: SLF001 - PEFT's own hook
_peft_reset: Any = AdaLoraLayer.reset_lora_parameters


class LayerOverrides(_Layer):
    """Methods of every adapted layer of PEFT."""

    def reset_lora_parameters(self, adapter_name: str) -> None:  # type: ignore[override] # as PEFT's
        """Draw the factors anew, with the start of the adapter's configuration."""
        if self.__dict__.get(LORA_STARTS, {}).get(adapter_name):
            draw_lora_start(self, adapter_name)
        else:
            _peft_reset(self, adapter_name)

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        """Move the factors as PEFT does, and freeze the divisor of the scale.

        PEFT trains the divisor if the base model is not in float32, since it makes a new parameter.
        """
        _peft_move(self, adapter_name, device)
        if adapter_name in self.ranknum:
            divisor = self.ranknum[adapter_name].requires_grad_(False)
            # On the meta device PEFT before 0.21 makes adapters to load; nothing is pruned yet.
            if divisor.is_meta or round(float(divisor)) == self.r[adapter_name]:
                vars(self).setdefault(INITIAL_RANKS, {})[adapter_name] = self.r[adapter_name]


class LinearOverrides(LayerOverrides):
    """Methods of PEFT's layers that map `[..., in] -> [..., out]`, quantised ones included."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Apply the base layer and the active adapters to `x` `[..., in]`."""
        if _uses_peft_forward(self):
            return _peft_forward(self, x, *args, **kwargs)
        base = self.base_layer
        keeps_output = may_keep_output(base)
        return adapted_output(base, x, _products(self), args, kwargs, keeps_output=keeps_output)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 - PEFT's signature
        """Return whether PEFT's `convert_to_lora` can take ΔW apart; quantised layers have none."""
        return hasattr(self, "get_delta_weight") and not are_sharded(self.lora_E.values())


class ConvolutionOverrides(LayerOverrides):
    """Methods of PEFT's `SVDConv2d`."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Apply the base layer and the active adapters to `x` `[N, in, H, W]`."""
        if _uses_peft_forward(self):
            return _peft_forward(self, x, *args, **kwargs)
        output: torch.Tensor = self.base_layer(x, *args, **kwargs)
        convolution: Any = self.get_base_layer()
        return plus_convolutions(output, x, _products(self), convolution)


_NAMES = ("SVDLinear", "SVDQuantLinear", "SVDLinear8bitLt", "SVDLinear4bit")
_CLASSES = (getattr(each, name, None) for each in (dense, gptq, bnb) for name in _NAMES)
OVERRIDES: dict[type, type] = dict.fromkeys(filter(None, _CLASSES), LinearOverrides)
"""Layer classes of PEFT and their overrides; some classes exist only with bitsandbytes."""
if hasattr(dense, "SVDConv2d"):  # since PEFT 0.20
    OVERRIDES[dense.SVDConv2d] = ConvolutionOverrides

_PEFT_FORWARDS: dict[type, Any] = {cls: cls.forward for cls in OVERRIDES}  # type: ignore[attr-defined]


def _peft_forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    if layer.disable_adapters and layer.merged:
        # PEFT's forward would subtract what autocast has rounded.
        with without_autocast(next(iter(layer.lora_A.values()))):
            layer.unmerge()
    cls = next(each for each in type(layer).__mro__ if each in _PEFT_FORWARDS)
    output: torch.Tensor = _PEFT_FORWARDS[cls](layer, x, *args, **kwargs)
    return output


def _uses_peft_forward(layer: Any) -> bool:
    return INITIAL_RANKS not in layer.__dict__ or layer.disable_adapters or layer.merged


def _products(layer: Any) -> list[Product]:
    ranks = layer.__dict__[INITIAL_RANKS]
    return [
        Product(
            layer.lora_A[name],
            layer.lora_E[name],
            layer.lora_B[name],
            scale_of(layer.scaling[name], ranks[name]),
            dropout_of(layer.lora_dropout[name]),
        )
        for name in layer.active_adapters
        if name in layer.lora_A
    ]


def adalora_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield path and layer of every adapted layer of PEFT, in the model's order."""
    for path, module in model.named_modules():
        if isinstance(module, AdaLoraLayer):
            yield path, module


@torch.no_grad()
def draw_lora_start(layer: Any, name: str) -> None:
    """Give the factors of the adapter `name` of `layer` the start of LoRA, in place."""
    factors = {factor: getattr(layer, factor)[name] for factor in FACTORS}
    if factors["lora_A"].is_meta:
        return  # values come later, from a file or from `reset_lora_parameters`
    shapes = {factor: tuple(each.shape) for factor, each in factors.items()}
    drawn = adapter_layer.lora_start(shapes)
    dtype = adapter_layer.rounding_dtype(layer.get_base_layer())
    for factor, each in factors.items():
        each.copy_(drawn[factor].to(dtype))


def set_rank(layer: Any, name: str, rank: int) -> None:
    """Resize the factors of `layer` to `rank` triplets, all of them zero.

    The parameters stay the same objects, since an optimizer may hold them.
    """
    for factor, axis in TRIPLET_AXES.items():
        parameter = getattr(layer, factor)[name]
        shape = list(parameter.shape)
        if shape[axis] != rank:
            shape[axis] = rank
            parameter.grad = None
            parameter.data = parameter.data.new_zeros(shape)


@contextlib.contextmanager
def injecting(model: nn.Module, name: str, config: Any) -> Iterator[None]:
    """Let PEFT inject the adapter `name` into `model`, and give it the start of `config`.

    Of an adapter that starts like LoRA the draws of PEFT leave no trace in the generator.
    """
    _mark(model, name, like_lora=False)  # while PEFT injects, its draws are its own
    if config.init_lora_weights != LORA_START:
        yield
        return
    device = torch.get_default_device()
    others = [] if device.type in {"cpu", "meta"} else [device]
    with torch.random.fork_rng(others, device_type=device.type if others else "cuda"):
        yield
    _mark(model, name, like_lora=True)
    _draw_all(model, name)


def start_fresh_adapters(tuner: Host, configs: dict[str, Any]) -> None:
    """Give adapters that PEFT has made, and nobody has trained or loaded, the start of LoRA."""
    like_lora = [name for name, each in configs.items() if each.init_lora_weights == LORA_START]
    fresh = [name for name in like_lora if _is_fresh(tuner, name, configs[name])]
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


def _is_fresh(tuner: Host, name: str, config: Any) -> bool:
    """Return whether an adapter is as PEFT makes it; divided E are gathered."""
    if config.inference_mode or config.rank_pattern:
        return False
    allocator: Any = vars(tuner).get("rankallocator")
    if getattr(allocator, "adapter_name", None) == name and allocator.ipt:
        return False
    values = _singular_values(tuner.model, name)
    return not any(not each.is_meta and whole(each).any() for each in values)


def _singular_values(model: nn.Module, name: str) -> list[torch.Tensor]:
    return [each.lora_E[name] for _, each in adalora_layers(model) if name in each.lora_E]


def _mark(model: nn.Module, name: str, *, like_lora: bool) -> None:
    for _, layer in adalora_layers(model):
        layer.__dict__.setdefault(LORA_STARTS, {})[name] = like_lora


def _draw_all(model: nn.Module, name: str) -> None:
    for _, layer in adalora_layers(model):
        if name in layer.lora_A:
            draw_lora_start(layer, name)


def watch_states(module: nn.Module) -> None:
    """Mark the state dictionaries of `module` while it is merged, and look for marks in others."""
    module.register_state_dict_post_hook(_mark_if_merged)
    module.register_load_state_dict_pre_hook(_warn_if_marked)


def _is_merged(module: nn.Module) -> bool:
    return any(layer.merged_adapters for _, layer in adalora_layers(module))


def _mark_if_merged(module: nn.Module, _state: Any, _prefix: str, metadata: dict[str, Any]) -> None:
    if _is_merged(module):
        metadata["adalora_is_merged"] = True


def _warn_if_marked(
    module: nn.Module, _state: Any, _prefix: str, metadata: dict[str, Any], *_: Any
) -> None:
    if metadata.get("adalora_is_merged") and not _is_merged(module):
        seen = "the state of a merged model is loaded beside the adapter, which then acts twice"
        report({}, MergedStateLoaded, seen)
