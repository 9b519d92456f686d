"""Rows of an embedding that are trained beside the adapters, such as those of new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from adalora_core.floor.errors import ParallelismError
from adalora_core.floor.peft_identity import SeenAsPeft
from adalora_core.sharding.layout import is_sharded


class TokenRows(SeenAsPeft, nn.Module):
    """The `original_module` of `wrapper`, called with other rows in its weight.

    A file has the rows as `token_adapter.trainable_tokens_delta`, PEFT's name, unless `source`
    has them: that of the module whose weight is tied to this one.
    """

    seen_as = ("peft.tuners.tuners_utils", "BaseTunerLayer")
    adapter_layer_names = other_param_names = ()
    merged_adapters = ()

    def __init__(
        self, wrapper: Any, tokens: Sequence[int], dtype: torch.dtype, source: TokenRows | None
    ) -> None:
        super().__init__()
        weight = wrapper.original_module.weight
        self.register_buffer("index", torch.tensor(tokens, device=weight.device), persistent=False)
        # In a list, so that they are no submodules.
        self._outside = [wrapper, source or self]
        if source is None:
            self.token_adapter = nn.Module()
            rows = weight.detach()[self.index].to(dtype, copy=True)
            self.token_adapter.trainable_tokens_delta = nn.Parameter(rows)

    @property
    def active_adapters(self) -> list[str]:
        """The adapters whose rows the wrapper uses."""
        return self._outside[0].active_adapters  # type: ignore[no-any-return]

    @property
    def disable_adapters(self) -> bool:
        """Whether the wrapper calls its original module."""
        return self._outside[0].disable_adapters  # type: ignore[no-any-return]

    @property
    def weight(self) -> torch.Tensor:
        """The weight of the module with the rows of the adapter."""
        wrapper, source = self._outside
        weight = wrapper.original_module.weight
        if is_sharded(weight):
            raise ParallelismError(
                "trainable_token_indices: fully_shard has divided the embedding; call it for "
                "modules around the embedding alone, or train the embedding in modules_to_save"
            )
        rows = source.token_adapter.trainable_tokens_delta.to(weight)
        return weight.index_copy(0, self.index, rows)  # type: ignore[no-any-return]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module with this weight."""
        original = self._outside[0].original_module
        return torch.func.functional_call(original, {"weight": self.weight}, args, kwargs)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 - PEFT's signature
        """Return False: PEFT's `convert_to_lora` would drop the rows."""
        return False

    def _get_available_adapters(self) -> set[str]:
        return set()

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the module; models read the sizes of their embeddings."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "_outside" not in self.__dict__:
                raise
            return getattr(self._outside[0].original_module, name)
