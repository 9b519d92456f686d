"""Merge adapters into the base weights of a model, also into weights that modules share."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adalora_core.floor.errors import TargetError
from adalora_core.nn.offloading import loaded, offloading_hook

if TYPE_CHECKING:
    from adalora_core.nn import AdaLoraLayer


@contextlib.contextmanager
def all_or_none(layers: Iterable[Any], unmerge: Callable[[Any, int], None]) -> Iterator[None]:
    """Unmerge what the body has merged if it fails, also if it is interrupted.

    `unmerge` unmerges a layer, of this package or of PEFT, but for its first adapters.
    """
    before = [(layer, len(layer.merged_adapters)) for layer in layers]
    try:
        yield
    except BaseException:
        for layer, count in before:
            if len(layer.merged_adapters) > count:
                unmerge(layer, count)
        raise


def separate(
    model: nn.Module, layers: Iterable[AdaLoraLayer], shared: dict[AdaLoraLayer, Any]
) -> None:
    """Give every layer whose base weight other modules share a copy, and note it in `shared`."""
    uses = Counter(
        id(weight)
        for module in model.modules()
        for weight in module._parameters.values()  # noqa: SLF001 - named_parameters merges them
    )
    for layer in layers:
        weight = layer.base_layer._parameters.get("weight")  # noqa: SLF001 - same
        if weight is not None and uses[id(weight)] > 1:
            layer.base_layer.weight = copy.deepcopy(weight)
            shared[layer] = weight


def share_again(shared: dict[AdaLoraLayer, Any]) -> None:
    """Undo `separate` for layers that no adapter is merged into."""
    for layer in [each for each in shared if not each.merged_adapters]:
        layer.base_layer.weight = shared.pop(layer)


def refuse_shared_modules(model: nn.Module, paths: Iterable[str]) -> None:
    """Refuse to adapt a module of `paths` under one of its names, or to merge into it."""
    uses = Counter(
        id(each)
        for module in model.modules()
        for each in module._modules.values()  # noqa: SLF001 - named_children merges them
    )
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


def _have_one_weight(one: Any, other: Any) -> bool:
    with loaded(one), loaded(other):
        if one.weight is other.weight:
            return True
        # accelerate makes parameters of their own for both.
        is_offloaded = offloading_hook(one) is not None or offloading_hook(other) is not None
        return is_offloaded and torch.equal(one.weight.cpu(), other.weight.cpu())


def record_untied(model: Any) -> None:
    """Set `tie_word_embeddings` to False where the embeddings of `model` differ now.

    With True, transformers would load the saved model with one weight for both.
    """
    config: Any = getattr(model, "config", None)
    if not getattr(config, "tie_word_embeddings", False):
        return
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    if None in ends or _have_one_weight(*ends):
        return
    config.tie_word_embeddings = False
    warnings.warn(
        "unload: input and output embeddings differ now, so config.tie_word_embeddings is False",
        stacklevel=4,
    )
