"""Merge the adapter into the base weights of a model, also into weights that modules share."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adalora_core.floor.errors import TargetError
from adalora_core.nn.adapter_layer import dense_weight

if TYPE_CHECKING:
    from adalora_core.nn import AdaLoraLayer


@torch.no_grad()
def merge(model: nn.Module, layers: Mapping[str, AdaLoraLayer], *, safe: bool) -> None:
    """Add ΔW of every layer to its base weight, in all of them or in none.

    A weight that other modules of `model` have too becomes a copy in the layer.

    Raises:
        ValueError: `safe`, and a merged weight has entries that are not finite.
        TypeError: a base layer has no dense weight to merge into.
    """
    weights = {path: dense_weight(layer.base_layer, path) for path, layer in layers.items()}
    uses = _uses(model, "_parameters")
    merged: list[str] = []
    try:
        for path, layer in layers.items():
            weight = weights[path]
            delta = layer.delta_weight().to(weight.dtype)
            if safe:
                _refuse_not_finite(weight + delta, path)
            if uses[id(weight)] > 1:
                layer.base_layer.weight = copy.deepcopy(weight)
            layer.base_layer.weight.data += delta  # type: ignore[operator] # of a tensor
            merged.append(path)
    except BaseException:
        for path in merged:
            base: Any = layers[path].base_layer
            if base.weight is weights[path]:
                base.weight.data -= layers[path].delta_weight().to(base.weight.dtype)
            base.weight = weights[path]
        raise


def _refuse_not_finite(merged: torch.Tensor, path: str) -> None:
    if not merged.isfinite().all():
        raise ValueError(
            f"merge: NaNs detected in the merged weight of {path}: the adapter is broken; nothing "
            "was merged"
        )


def _uses(model: nn.Module, kind: str) -> Counter[int]:
    """Count under how many names each parameter, or each module, is in `model`."""
    # named_parameters and named_children merge them.
    return Counter(id(each) for module in model.modules() for each in vars(module)[kind].values())


def refuse_shared_modules(model: nn.Module, paths: Iterable[str]) -> None:
    """Refuse to adapt a module of `paths` under one of its names, or to merge into it."""
    uses = _uses(model, "_modules")
    for path in paths:
        shared = model.get_submodule(path)
        if uses[id(shared)] > 1:
            every = model.named_modules(remove_duplicate=False)
            names = [repr(name) for name, each in every if each is shared]
            raise TargetError(
                f"target_modules, modules_to_save: {' and '.join(names)} are one module, and would "
                "be trained or merged under one of these names only; give each name a module of "
                "its own, or leave them out"
            )


def record_untied(model: nn.Module) -> None:
    """Set `tie_word_embeddings` to False where the embeddings of `model` differ now.

    With True, transformers would load the saved model with one weight for both.
    """
    config: Any = getattr(model, "config", None)
    if not getattr(config, "tie_word_embeddings", False):
        return
    ends = [getattr(model, f"get_{end}_embeddings")() for end in ("input", "output")]
    if None in ends or ends[0].weight is ends[1].weight:
        return
    config.tie_word_embeddings = False
    warnings.warn(
        "unload: input and output embeddings differ now, so config.tie_word_embeddings is False",
        stacklevel=4,
    )
