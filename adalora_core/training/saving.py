"""Save the adapter of a model with its training state into a folder, and load both."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import distributed, nn

from adalora_core.config.fields.block import AUTO
from adalora_core.config.model import AdaLoraConfig
from adalora_core.floor.adapter_spec import CRITERIA, AdapterSpec
from adalora_core.floor.errors import CheckpointError, ParallelismError
from adalora_core.floor.files import locked
from adalora_core.floor.rank_pattern import RankPattern
from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER
from adalora_core.sharding import are_sharded, is_sharded, meet, reshard
from adalora_core.training import run_end
from adalora_core.training.adapter import Adapter, checked_copy, written_values
from adalora_core.training.adapter_file import folder as folders
from adalora_core.training.adapter_file import tensors as converting
from adalora_core.training.host import Host
from adalora_core.training.targets import refuse_unsupported
from adalora_core.training.training_state import contents
from adalora_core.training.training_state import state as states
from adalora_core.training.tuner import AdaLoraTuner


class Save:
    """A save of adapters in one order: reshard, judge, and for each adapter stage and commit.

    The caller stages: an own model encodes its files, and PEFT and other libraries write theirs.
    `with_state` marks a checkpoint, with the training state of an unfinished run; None writes that
    too. `has_tensors`: the caller has the whole tensors of a divided model.

    Attributes:
        gathers: whether every process takes part, and the first one writes.
        writes: whether this process writes.
    """

    def __init__(
        self,
        model: nn.Module,
        adapters: Iterable[Adapter],
        folder: Path,
        *,
        with_state: bool | None,
        is_main_process: bool = True,
        has_tensors: bool = False,
    ) -> None:
        reshard(model)
        # Trainer gives such names to what a run can resume from.
        names = folder.name, folder.parent.name
        is_named = any(re.fullmatch(r"checkpoint-\d+", each) for each in names)
        is_checkpoint = with_state is True or is_named
        for adapter in adapters:
            run_end.warn_if_unfinished(adapter, "saved", is_checkpoint=is_checkpoint)
            adapter.drop_again()
        is_divided = are_sharded(model.parameters())
        self.gathers = is_divided and not has_tensors
        self.writes = distributed.get_rank() == 0 if self.gathers else is_main_process
        if is_divided and has_tensors:
            if with_state:
                raise ParallelismError(
                    "save_pretrained: got state_dict and save_training_state=True, but the "
                    "averages are divided over processes; leave state_dict out, and call it on "
                    "every process"
                )
            with_state = False
        self._model, self._with_state = model, with_state

    def commit(self, target: Path, adapter: Adapter | None, files: Files) -> None:
        """Replace the save in `target` by `files`, with the training state of a trained adapter."""
        state = None
        if adapter is not None and self.writes:
            run_end.warn_if_file_lacks_trained(self._model, adapter, files.names)
        allocator = None if adapter is None else adapter.allocator
        if adapter is not None and allocator is not None and self._with_state is not False:
            last, total = allocator.last_step, allocator.schedule.total_step
            if self._with_state if last is None else last + 1 < total:
                pattern = adapter.rank_pattern(live=True)
                state = states.encode_state(adapter, pattern, files.weights, files.config)
        if self.writes:
            folders.commit(
                target, files.weights, files.config, state, weights_name=files.weights_name
            )


class Files(NamedTuple):
    """The staged files of an adapter; `names` returns those of its tensors."""

    weights: bytes
    config: bytes
    names: Callable[[], Collection[str]]
    weights_name: str = folders.WEIGHTS_NAME


def save_adapter(
    model: Host, folder: Path, with_state: bool | None, *, is_main_process: bool
) -> None:
    """Write the adapter of `model` into `folder`; see `AdaLoraModel.save_pretrained`.

    With a sharded model every process has to call it, since the factors are gathered; the first
    process writes, and all return when it has.
    """
    tuner = cast("AdaLoraTuner", model.base_model)
    adapter = tuner.adapter
    save = Save(model, [adapter], folder, with_state=with_state, is_main_process=is_main_process)
    if not (save.writes or save.gathers):
        return
    try:
        pattern = adapter.rank_pattern(live=True)
        tensors = converting.collect_tensors(tuner, adapter, pattern)
        # The factors of such a layer look like those of a linear one.
        kernels = {p: one.lora_kernel for p, one in adapter.layers.items() if one.lora_kernel != ()}
        of_kernels = {converting.KERNELS: json.dumps(kernels)} if kernels else {}
        metadata = {"format": "pt", **of_kernels}
        weights = folders.encode_tensors(tensors, metadata)
        config = folders.encode_config(_config_values(tuner, adapter, pattern))
        save.commit(folder, adapter, Files(weights, config, tensors.keys))
    finally:
        if save.gathers:
            meet(next(filter(is_sharded, tuner.parameters())))


def _config_values(
    tuner: AdaLoraTuner, adapter: Adapter, pattern: RankPattern | None
) -> dict[str, Any]:
    base = tuner.model
    values = written_values(adapter.config)
    values |= {"rank_pattern": pattern, "inference_mode": True}
    values["base_model_name_or_path"] = converting.pretrained_name(adapter.config, base)
    if values.get("task_type") is None:
        name, library = type(base).__name__, type(base).__module__
        values["auto_mapping"] = {"base_model_class": name, "parent_library": library}
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
    """
    existing = tuner.adapter if tuner.adapters else None
    learns = is_trainable or existing is not None
    given = None if config is None else checked_copy(config, inference_mode=not learns)
    with locked(folder, shared=True):
        state = states.read_state(folder) if learns else None
        fallback = None if state is None else state.values["config"]
        changes = {"inference_mode": False} if learns else {}
        saved = folders.read_adapter(folder, fallback, config=given, **changes)
    saved.config.inference_mode = not learns
    refuse_unsupported(saved.config)
    positions = converting.row_positions(saved)
    targets = converting.targets_in(tuner.model, saved, positions)
    if given is None:
        # PEFT's file cannot name it.
        if existing is not None:
            saved.config.importance_criterion = existing.spec.importance_criterion
        elif state is not None and (named := contents.saved_criterion(state.values)) in CRITERIA:
            saved.config.importance_criterion = named
    if state is not None:
        contents.refuse_other_criterion(state.values, DEFAULT_ADAPTER, saved.config)
        state.complete(saved, positions)
        positions = state.values["positions"]
        saved.tensors |= state.factors
    if existing is None:
        # The values come from the file: no random numbers, no memory twice.
        meta = torch.device("meta")
        adapter = tuner.inject(saved.config, targets=targets, positions=positions, device=meta)
        converting.load_tensors(tuner, adapter, saved, autocast=autocast)
    elif are_sharded(existing.factors()[0]):
        places = converting.divided_places(tuner.model, DEFAULT_ADAPTER, saved.tensors, folder)
        adapter = _reuse_adapter(existing, saved, positions)
        converting.fill_divided(places)
    else:
        adapter = _reuse_adapter(existing, saved, positions)
        converting.load_tensors(tuner, adapter, saved, autocast=autocast)
    adapter.start_allocation()
    if learns:
        run_end.begin_loaded_run(adapter, has_state=state is not None)
    if state is not None:
        states.restore_allocator(adapter, state)


def _reuse_adapter(
    adapter: Adapter, saved: folders.SavedAdapter, positions: dict[str, list[int]]
) -> Adapter:
    """Give `adapter` the configuration and the positions of the file; refuse another shape."""
    spec = AdapterSpec.of(saved.config)
    if adapter.spec.total_step is None:
        # "auto": the file has the number.
        adapter.spec = dataclasses.replace(adapter.spec, total_step=spec.total_step)
    paths = list(adapter.layers)
    if contents.fingerprint(adapter.spec, paths) != contents.fingerprint(spec, list(positions)):
        raise CheckpointError(
            "from_pretrained: the model has an adapter with another schedule or other modules than "
            f"the one in {str(saved.folder)!r}; load it into a new base model"
        )
    if adapter.config.total_step == AUTO:
        adapter.config = saved.config
    adapter.config.rank_pattern = saved.config.rank_pattern
    adapter.positions = {path: positions[path] for path in paths}
    return adapter
