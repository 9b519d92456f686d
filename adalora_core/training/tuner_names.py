"""Give the tuner the names under which PEFT's functions and trainers read and resize it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.training.compaction import cut_state, resize_to

if TYPE_CHECKING:
    import torch

    from adalora_core.floor.rank_pattern import RankPattern
    from adalora_core.training.adapter import Adapter


class TunerNames:
    """Names of PEFT's tuners that are views of what an `AdaLoraTuner` holds."""

    adapters: dict[str, Adapter]
    active_adapters: list[str]

    prefix = "lora_"

    @property
    def peft_config(self) -> dict[str, Any]:
        """The configuration of each adapter, with its rank pattern as it is now."""
        for adapter in self.adapters.values():
            adapter.sync_pattern()
        return {name: adapter.config for name, adapter in self.adapters.items()}

    @property
    def trainable_adapter_name(self) -> str:
        """The adapter that is made for training, an active one first; no attribute if none is."""
        for each in (*self.active_adapters, *self.adapters):
            if self.adapters[each].is_trainable:
                return each
        raise AttributeError("trainable_adapter_name")

    def resize_modules_by_rank_pattern(self, rank_pattern: RankPattern, adapter_name: str) -> None:
        """Give the modules of an adapter the triplets that `rank_pattern` keeps.

        The allocation starts anew if a rank changes, and an optimizer with a state has to be made
        anew; `AdaLoraModel.compact` keeps both.
        """
        resize_to(self.adapters[adapter_name], rank_pattern)

    def resize_state_dict_by_rank_pattern(
        self,
        rank_pattern: RankPattern,
        state_dict: dict[str, torch.Tensor],
        adapter_name: str,
    ) -> dict[str, torch.Tensor]:
        """Cut the triplets of `state_dict` that the adapter has dropped, for PEFT's function."""
        del rank_pattern  # the configuration's, out of whose keys PEFT has cut the adapter's name
        adapter = self.adapters[adapter_name]
        adapter.sync_pattern()
        return cut_state(adapter, adapter.rank_pattern(), state_dict)
