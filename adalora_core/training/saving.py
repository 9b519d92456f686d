"""Save the adapter of a model with its training state into a folder, and load both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from adalora_core.config.fields.block import AUTO
from adalora_core.floor.adapter_spec import CRITERIA, AdapterSpec
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.files import locked
from adalora_core.floor.rank_pattern import TENSOR_PREFIX
from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER
from adalora_core.sharding.layout import are_sharded, is_sharded, meet
from adalora_core.training.adapter import Adapter, checked_copy, written_values
from adalora_core.training.adapter_file.checks import row_positions, targets_in
from adalora_core.training.adapter_file.folder import (
    SavedAdapter,
    commit,
    encode_config,
    encode_tensors,
    read_adapter,
)
from adalora_core.training.adapter_file.lora import encoded_kernels
from adalora_core.training.adapter_file.tensors import (
    Saved,
    collect_tensors,
    divided_places,
    fill_divided,
    load_embeddings,
    load_tensors,
    pretrained_name,
)
from adalora_core.training.parallelism import refuse_state_of_one_process
from adalora_core.training.run_end import (
    begin_loaded_run,
    is_checkpoint_folder,
    warn_if_file_lacks_trained,
    warn_if_unfinished,
)
from adalora_core.training.targets import refuse_unsupported
from adalora_core.training.training_state.progress import (
    fingerprint,
    refuse_other_criterion,
    saved_criterion,
)
from adalora_core.training.training_state.state import (
    encode_state,
    read_state,
    restore_allocator,
    run_is_unfinished,
)

if TYPE_CHECKING:
    from pathlib import Path

    from adalora_core.config.model import AdaLoraConfig
    from adalora_core.floor.rank_pattern import RankPattern
    from adalora_core.training.tuner import AdaLoraTuner


def save_adapter(
    tuner: AdaLoraTuner,
    folder: Path,
    *,
    with_state: bool | None,
    is_main_process: bool,
    gathered: Mapping[str, torch.Tensor] | None,
    embeddings: Saved,
) -> None:
    """Write the adapter of `tuner` into `folder`; see `AdaLoraModel.save_pretrained`.

    With a sharded model every process has to call it, since the factors are gathered; the first
    process writes, and all return when it has. With `gathered`, the whole tensors of the model, one
    process can save the adapter alone, but not the training state.
    """
    adapter = tuner.adapter
    resumes = with_state is True or is_checkpoint_folder(folder)
    warn_if_unfinished(adapter, "saved", is_checkpoint=resumes)
    adapter.drop_again()
    is_divided = are_sharded(adapter.factors()[0])
    if is_divided and gathered is None:
        # All processes gather what the first one writes.
        is_main_process = distributed.get_rank() == 0
    elif is_divided:
        refuse_state_of_one_process(with_state)
        with_state = False
    else:
        gathered = None
    if not is_main_process and (gathered is not None or not is_divided):
        return
    if with_state is None:
        with_state = run_is_unfinished(adapter)
    try:
        files = _encoded(tuner, adapter, gathered, embeddings, with_state=with_state)
        if is_main_process:
            commit(folder, *files)
    finally:
        if is_divided and gathered is None:
            meet(next(filter(is_sharded, adapter.factors()[0])))


def _encoded(
    tuner: AdaLoraTuner,
    adapter: Adapter,
    gathered: Mapping[str, torch.Tensor] | None,
    embeddings: Saved,
    *,
    with_state: bool,
) -> tuple[bytes, bytes, bytes | None]:
    """Return the weights, the configuration and the training state of `adapter` as files."""
    singular_values = gathered and {
        path: gathered[f"{TENSOR_PREFIX}{path}.lora_E.{adapter.name}"] for path in adapter.layers
    }
    pattern = adapter.rank_pattern(live=True, singular_values=singular_values)
    tensors = collect_tensors(tuner, adapter, pattern, gathered, embeddings)
    warn_if_file_lacks_trained(tuner.model, adapter, tensors.keys)
    weights = encode_tensors(tensors, {"format": "pt", **encoded_kernels(adapter.layers)})
    config = encode_config(_config_values(tuner, adapter, pattern))
    state = encode_state(adapter, pattern, weights, config) if with_state else None
    return weights, config, state


def _config_values(
    tuner: AdaLoraTuner, adapter: Adapter, pattern: RankPattern | None
) -> dict[str, Any]:
    base = tuner.model
    values = written_values(adapter.config)
    values |= {"rank_pattern": pattern, "inference_mode": True}
    values["base_model_name_or_path"] = pretrained_name(adapter.config, base)
    if values.get("task_type") is None:
        values["auto_mapping"] = {
            "base_model_class": type(base).__name__,
            "parent_library": type(base).__module__,
        }
    return values


def load_adapter(
    tuner: AdaLoraTuner,
    folder: Path,
    *,
    is_trainable: bool,
    autocast: bool,
    config: AdaLoraConfig | None = None,
) -> None:
    """Give `tuner` the adapter in `folder`; see `AdaLoraModel.from_pretrained`.

    Everything is read and checked first. A trainable adapter continues from the training state in
    the folder, if there is one. An adapter that is there takes the values of the file, and stays
    trainable.

    Args:
        tuner: the model.
        folder: folder of the adapter.
        is_trainable: whether a new adapter is trainable.
        autocast: use float32 factors on a base of lower precision.
        config: the configuration to use instead of the one in the folder.
    """
    existing = tuner.adapter if tuner.adapters else None
    learns = is_trainable or existing is not None
    given = None if config is None else checked_copy(config, inference_mode=not learns)
    with locked(folder, shared=True):
        state = read_state(folder) if learns else None
        fallback = None if state is None else state.config
        changes = {"inference_mode": False} if learns else {}
        saved = read_adapter(folder, fallback, config=given, **changes)
    saved.config.inference_mode = not learns
    refuse_unsupported(saved.config)
    positions = row_positions(saved)
    targets = targets_in(tuner.model, saved, positions)
    if given is None:
        # PEFT's file cannot name it.
        if existing is not None:
            saved.config.importance_criterion = existing.spec.importance_criterion
        elif state is not None and (named := saved_criterion(state.values)) in CRITERIA:
            saved.config.importance_criterion = named
    if state is not None:
        refuse_other_criterion(state.values, DEFAULT_ADAPTER, saved.config)
        state.complete(saved, positions)
        positions = state.positions
        saved.tensors |= state.factors
    if existing is None:
        # The values come from the file: no random numbers, no memory twice.
        meta = torch.device("meta")
        adapter = tuner.inject(saved.config, targets=targets, positions=positions, device=meta)
        load_tensors(tuner, adapter, saved, autocast=autocast)
    elif are_sharded(existing.factors()[0]):
        places = divided_places(tuner.model, DEFAULT_ADAPTER, saved.tensors, folder)
        adapter = _reuse_adapter(existing, saved, positions)
        fill_divided(places)
    else:
        adapter = _reuse_adapter(existing, saved, positions)
        load_tensors(tuner, adapter, saved, autocast=autocast)
    load_embeddings(tuner.model, saved.embeddings)
    if learns:
        adapter.start_allocation()
        begin_loaded_run(adapter, has_state=state is not None)
    if state is not None:
        restore_allocator(adapter, state)


def _reuse_adapter(
    adapter: Adapter, saved: SavedAdapter, positions: dict[str, list[int]]
) -> Adapter:
    """Give `adapter` the configuration and the positions of the file; refuse another shape."""
    spec = AdapterSpec.of(saved.config)
    if adapter.spec.total_step is None:
        # "auto": the file has the number.
        adapter.spec = dataclasses.replace(adapter.spec, total_step=spec.total_step)
    paths = list(adapter.layers)
    if fingerprint(adapter.spec, paths) != fingerprint(spec, list(positions)):
        raise CheckpointError(
            "from_pretrained: the model has an adapter with another schedule or other modules than "
            f"the one in {str(saved.folder)!r}; load it into a new base model"
        )
    if adapter.config.total_step == AUTO:
        adapter.config = saved.config
    adapter.config.rank_pattern = saved.config.rank_pattern
    adapter.positions = {path: positions[path] for path in paths}
    return adapter
