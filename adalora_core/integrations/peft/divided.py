"""Load a save into a bridged adapter whose parameters `fully_shard` has divided."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.integrations.peft.adapters import adapter_of, configs_of, state_of
from adalora_core.training.adapter_file.tensors import divided_places, fill_divided
from adalora_core.training.training_state.state import restore_allocator

if TYPE_CHECKING:
    from adalora_core.training.adapter_file.folder import SavedAdapter
    from adalora_core.training.training_state.state import TrainingState


def load_divided(tuner: Any, name: str, saved: SavedAdapter, state: TrainingState | None) -> None:
    """Give the adapter `name` the values of a save, as every process does, and restore its run.

    Raises:
        ParallelismError: a tensor of the save has another shape than its parameter; nothing was
            changed.
    """
    tensors = saved.tensors | ({} if state is None else state.factors)
    places = divided_places(tuner.model, name, tensors, saved.folder)
    fill_divided(places)
    configs_of(tuner)[name].rank_pattern = saved.config.rank_pattern
    bridge = state_of(tuner)
    bridge.adapters.pop(name, None)
    if state is not None:
        bridge.positions[name] = state.positions
        restore_allocator(adapter_of(tuner, name), state)
        bridge.stale.add(name)
