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
    """A module that is called with other rows in its weight.

    A file has the rows as `token_adapter.trainable_tokens_delta`, PEFT's name, unless `source`
    has them: that of the module whose weight is tied to this one.
    """

    seen_as = ("peft.tuners.tuners_utils", "BaseTunerLayer")
    adapter_layer_names = other_param_names = ()
    active_adapters = merged_adapters = ()
    disable_adapters = False

    def __init__(
        self, module: Any, tokens: Sequence[int], dtype: torch.dtype, source: TokenRows | None
    ) -> None:
        super().__init__()
        index = torch.tensor(tokens, device=module.weight.device)
        self.register_buffer("index", index, persistent=False)
        # In a list, so that they are no submodules.
        self._outside = [module, source or self]
        if source is None:
            self.token_adapter = nn.Module()
            rows = module.weight.detach()[index].to(dtype, copy=True)
            self.token_adapter.trainable_tokens_delta = nn.Parameter(rows)

    @property
    def weight(self) -> torch.Tensor:
        """The weight of the module with the rows of the adapter."""
        module, source = self._outside
        if is_sharded(module.weight):
            raise ParallelismError(
                "trainable_token_indices: fully_shard has divided the embedding; call it for "
                "modules around the embedding alone, or train the embedding in modules_to_save"
            )
        rows = source.token_adapter.trainable_tokens_delta.to(module.weight)
        return module.weight.index_copy(0, self.index, rows)  # type: ignore[no-any-return]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the module with this weight."""
        return torch.func.functional_call(
            self._outside[0], {"weight": self.weight}, args, kwargs or None
        )

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
            return getattr(self._outside[0], name)
