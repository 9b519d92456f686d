"""Merge adapters into the base weights of a model: in every layer, or in none."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from adalora_core.nn import AdaLoraLayer
from adalora_core.nn.adapter_layer import dense_weight
from adalora_core.training.parallelism import refuse_merging
from adalora_core.training.tied_weights import separate, share_again

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


def merge_all(tuner: Any, adapter_names: Sequence[str] | None, *, safe_merge: bool) -> None:
    """Add ΔW of the adapters to the base weights; see `AdaLoraTuner.merge_adapter`."""
    layers = {
        path: each for path, each in tuner.model.named_modules() if isinstance(each, AdaLoraLayer)
    }
    refuse_merging(layers.items())
    for path, layer in layers.items():
        if layer.names_to_merge(adapter_names):
            dense_weight(layer.base_layer, path)
    for adapter in tuner.trained_adapters():
        adapter.drop_again()
    try:
        with all_or_none(layers.values(), _unmerge):
            separate(tuner.model, layers.values(), tuner.untied)
            for layer in layers.values():
                layer.merge(safe_merge=safe_merge, adapter_names=adapter_names)
    finally:
        share_again(tuner.untied)


@contextlib.contextmanager
def all_or_none(layers: Iterable[Any], unmerge: Callable[[Any, int], None]) -> Iterator[None]:
    """Unmerge what the body has merged if it fails, also if it is interrupted.

    Args:
        layers: the adapted layers, of this package or of PEFT.
        unmerge: unmerges a layer but for its first adapters.
    """
    before = [(layer, len(layer.merged_adapters)) for layer in layers]
    try:
        yield
    except BaseException:
        for layer, count in before:
            if len(layer.merged_adapters) > count:
                unmerge(layer, count)
        raise


def _unmerge(layer: AdaLoraLayer, keep: int) -> None:
    layer.unmerge(keep=keep)
