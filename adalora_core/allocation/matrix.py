"""Where the allocator finds the factors of one adapted matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


@dataclass(frozen=True, slots=True)
class AdaptedMatrix:
    """The places of the factors of one matrix, looked up anew at every step.

    The parameters themselves may be replaced behind our back (moved, sharded, re-created by a
    load); the dictionaries of the modules that own them stay.

    Args:
        path: the adapted module inside the base model.
        lora_A, lora_E, lora_B: the mappings that hold the factors.
        adapter_name: their key.
    """

    path: str
    lora_A: Mapping[str, torch.nn.Parameter | None]  # noqa: N815 - the wire name
    lora_E: Mapping[str, torch.nn.Parameter | None]  # noqa: N815 - the wire name
    lora_B: Mapping[str, torch.nn.Parameter | None]  # noqa: N815 - the wire name
    adapter_name: str

    @property
    def rank(self) -> int:
        """Triplets that the matrix holds, masked ones included."""
        singular_values = self.lora_E[self.adapter_name]
        return 0 if singular_values is None else int(singular_values.shape[0])
