"""Find the embeddings of a base model that an adapter file in PEFT's format may hold."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Literal

from adalora_core.nn import AdaLoraLayer, ModulesToSave
from adalora_core.sharding import fill

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

Saved = bool | Literal["auto"]
"""PEFT's `save_embedding_layers`: "auto" saves embeddings whose vocabulary was resized."""

_WRAPPER = re.compile(r"\.(?:base_layer|original_module)\.")


def without_wrapper(name: str) -> str:
    """Return the name of a parameter in the base model, which has neither adapters nor copies."""
    return _WRAPPER.sub(".", name)


def embeddings_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters of the input embedding and the output head, by their names in `model`.

    Of an adapted head and of one that is trained whole they are those of the base model.
    """
    layers: list[Any] = []
    for getter in ("get_input_embeddings", "get_output_embeddings"):
        # As in PEFT, only models of transformers have embeddings.
        with contextlib.suppress(AttributeError, NotImplementedError):
            layer = getattr(model, getter)()
            layer = layer.base_layer if isinstance(layer, AdaLoraLayer) else layer
            layers.append(layer.original_module if isinstance(layer, ModulesToSave) else layer)
    return {
        f"{path}.{name}": parameter
        for path, module in model.named_modules()
        if any(module is layer for layer in layers)
        for name, parameter in module.named_parameters(recurse=False)
    }


def saved_embeddings(
    model: nn.Module, pretrained: str | None, saved: Saved
) -> dict[str, nn.Parameter]:
    """Return the embeddings of `model` if they belong into a file, else none.

    Args:
        model: the base model.
        pretrained: the folder or the id of the Hub that it was loaded from; nothing is downloaded.
        saved: PEFT's `save_embedding_layers`.
    """
    are_saved = _is_resized(model, pretrained) if saved == "auto" else saved
    return embeddings_of(model) if are_saved else {}


def _is_resized(model: nn.Module, pretrained: str | None) -> bool:
    config: Any = getattr(model, "config", None)
    size = getattr(config, "vocab_size", None)
    if size and pretrained:
        with contextlib.suppress(OSError, ValueError):
            before = type(config).from_pretrained(pretrained, local_files_only=True)
            return bool(before.vocab_size != size)
    return False


def load_embeddings(model: nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Give the embeddings of `model` the values of a file, by their names in the base model."""
    if values:
        for name, parameter in embeddings_of(model).items():
            if (found := values.get(without_wrapper(name))) is not None:
                fill(parameter, found, "load_adapter")
