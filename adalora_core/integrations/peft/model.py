"""Override PEFT's `PeftModel`: the training state beside its files, and the penalty."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from peft.tuners.adalora.model import AdaLoraModel
from torch import distributed

from adalora_core.adapter_spec import AdapterSpec
from adalora_core.errors import CheckpointError
from adalora_core.integrations.peft.adapters import (
    adapter_of,
    configs_of,
    pattern_positions,
    resize_adapter,
    state_of,
    trained_adapters,
)
from adalora_core.integrations.peft.tuner import adapters_are_disabled, refuse_unsupported
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.sharding import are_sharded, whole
from adalora_core.training.adapter_file.checks import row_positions
from adalora_core.training.adapter_file.folder import CONFIG_NAME, read_adapter
from adalora_core.training.files import write_files
from adalora_core.training.parallelism import reshard
from adalora_core.training.penalty_per_step import add_penalty
from adalora_core.training.run_end import judge_end, judge_load
from adalora_core.training.training_state.progress import fingerprint
from adalora_core.training.training_state.state import (
    STATE_FILES,
    encode_state,
    read_state,
    restore_allocator,
    run_is_unfinished,
)

if TYPE_CHECKING:
    from adalora_core.training.training_state.state import TrainingState

_peft_forward = PeftModel.forward
_peft_save = PeftModel.save_pretrained
_peft_load = PeftModel.load_adapter
_SAVE_SIGNATURE = inspect.signature(_peft_save)


class ModelOverrides:
    """Methods of every `PeftModel`; models of other methods than AdaLoRA behave as before."""

    def save_pretrained(self: Any, save_directory: str, *args: Any, **kwargs: Any) -> None:
        """Save as PEFT does, and add the training state while a run is unfinished.

        `save_training_state=True` marks a checkpoint of an unfinished run, and `False` leaves the
        state out, as in `AdaLoraModel.save_pretrained`.

        Under FSDP2 every process has to call it; the first process writes.
        """
        if not is_adalora(self):
            _peft_save(self, save_directory, *args, **kwargs)
            return
        is_checkpoint = kwargs.pop("save_training_state", None)
        for adapter in trained_adapters(self.base_model):
            judge_end(adapter, "saved", is_checkpoint=is_checkpoint is True)
        call = _SAVE_SIGNATURE.bind(self, save_directory, *args, **kwargs)
        given = call.arguments
        is_divided = are_sharded(self.parameters())
        if is_divided:
            reshard(self)
            given["is_main_process"] = distributed.get_rank() == 0
            given.setdefault("kwargs", {}).setdefault("state_dict", _gathered(self))
        with warnings.catch_warnings():
            # PEFT mistakes the empty tensors of a module at rank 0 for a failed gather.
            warnings.filterwarnings("ignore", ".*LoRA tensor.* have invalid shape")
            _peft_save(*call.args, **call.kwargs)
        is_main_process = given.get("is_main_process", True)
        selected = given.get("selected_adapters")
        for adapter in trained_adapters(self.base_model):
            # PEFT has put the pattern of the file into the configuration.
            adapter.sync_pattern()
            is_selected = selected is None or adapter.name in selected
            if not is_selected or not (is_main_process or is_divided):
                continue
            state = {}
            if run_is_unfinished(adapter) and is_checkpoint is not False:
                state = encode_state(adapter, adapter.rank_pattern(live=True))
            folder = Path(save_directory) / ("" if adapter.name == "default" else adapter.name)
            if is_main_process:
                write_files(folder, state, remove=() if state else STATE_FILES)

    def load_adapter(
        self: Any,
        model_id: Any,
        adapter_name: str,
        is_trainable: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Load as PEFT does, into an adapter of any rank, and restore the training state.

        Raises:
            CheckpointError: the training state is damaged or of another run; nothing was loaded.
        """
        if not is_adalora(self):
            return _peft_load(self, model_id, adapter_name, is_trainable, *args, **kwargs)
        tuner = self.base_model
        folder = Path(str(model_id))
        existing = configs_of(tuner).get(adapter_name)
        learns = is_trainable or (existing is not None and not existing.inference_mode)
        state = _checked_state(folder, existing) if learns else None
        if existing is not None and (folder / CONFIG_NAME).is_file():
            # PEFT reads the configuration only for a new adapter.
            pattern = json.loads((folder / CONFIG_NAME).read_bytes()).get("rank_pattern")
            existing.rank_pattern = pattern
            resize_adapter(tuner, adapter_name, pattern_positions(pattern, adapter_name))
        result = _peft_load(self, model_id, adapter_name, is_trainable, *args, **kwargs)
        if learns:
            judge_load(adapter_of(tuner, adapter_name), has_state=state is not None)
        if state is not None:
            _resume(tuner, adapter_name, state)
        return result


class PlainModelOverrides(ModelOverrides):
    """Methods of a `PeftModel` without a task type, whose forward does not reach the tuner."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Call the base model; in training mode add the penalty to `outputs.loss`."""
        if not is_adalora(self):
            return _peft_forward(self, *args, **kwargs)
        refuse_unsupported(self.base_model, [*args, *kwargs.values()])
        outputs = _peft_forward(self, *args, **kwargs)
        return add_penalty(self.base_model, outputs, kwargs, unless=adapters_are_disabled)


def is_adalora(model: Any) -> bool:
    """Return whether `model` is a `PeftModel` around PEFT's AdaLoRA tuner."""
    return isinstance(model, PeftModel) and isinstance(model.base_model, AdaLoraModel)


def _gathered(model: Any) -> dict[str, torch.Tensor]:
    """Return the entries of the state dictionary that PEFT saves, gathered."""
    return {
        name: whole(tensor)
        for name, tensor in model.state_dict().items()
        if ".lora_" in name or ".modules_to_save." in name or name.endswith("bias")
    }


def _checked_state(folder: Path, existing: Any) -> TrainingState | None:
    state = read_state(folder)
    if state is None:
        return None
    saved = read_adapter(folder)
    state.complete(saved, row_positions(saved))
    paths = list(state.positions)
    if existing is not None and fingerprint(AdapterSpec.of(existing), paths) != fingerprint(
        AdapterSpec.of(saved.config), paths
    ):
        raise CheckpointError(
            f"load_adapter: the adapter exists with another schedule than the one in "
            f"{str(folder)!r}; nothing was loaded"
        )
    return state


def _resume(tuner: Any, name: str, state: TrainingState) -> None:
    resize_adapter(tuner, name, state.positions)
    adapter = adapter_of(tuner, name)
    with torch.no_grad():
        for path, layer in adapter.layers.items():
            for factor in FACTORS:
                getattr(layer, factor)[name].copy_(state.factors[f"{path}.{factor}"])
    restore_allocator(adapter, state)
    state_of(tuner).stale.add(name)
