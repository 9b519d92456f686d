"""Override PEFT's `PeftModel`: the training state beside its files, and the penalty."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from peft import PeftModel
from peft.tuners.adalora.model import AdaLoraModel
from torch import nn
from torch.nn.modules.module import _IncompatibleKeys

from adalora_core.bridge import adapters
from adalora_core.bridge.configurations import to_peft_config
from adalora_core.bridge.layers import adalora_layers
from adalora_core.bridge.tuner import TunerOverrides, loading
from adalora_core.config.model import AdaLoraConfig
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import locked, staging_folder, write_file
from adalora_core.floor.rank_pattern import pattern_positions
from adalora_core.sharding import are_sharded, reshard, whole
from adalora_core.training.adapter import Adapter
from adalora_core.training.adapter_file import folder as files
from adalora_core.training.adapter_file.tensors import row_positions
from adalora_core.training.host import Host, add_penalty, check_forward, model_around, register
from adalora_core.training.run.reporting import refuse_other_than_module
from adalora_core.training.run_end import begin_loaded_run, warn_if_untrained_is_chosen
from adalora_core.training.saving import Files, Save
from adalora_core.training.training_state.contents import fingerprint, refuse_other_criterion
from adalora_core.training.training_state.state import TrainingState, read_state

_peft_init: Any = PeftModel.__init__
_peft_from_pretrained: Any = PeftModel.from_pretrained.__func__  # type: ignore[attr-defined]
_peft_forward = PeftModel.forward
_peft_save = PeftModel.save_pretrained
_peft_load = PeftModel.load_adapter
_SAVE_SIGNATURE = inspect.signature(_peft_save)
_LOAD_SIGNATURE = inspect.signature(_peft_from_pretrained)


class BridgedModel(PeftModel):
    """A `PeftModel` with a bridged tuner."""

    base_model: TunerOverrides


class ModelOverrides(BridgedModel):
    """Methods of every `PeftModel`; models of other methods than AdaLoRA behave as before."""

    def save_pretrained(self, save_directory: str, *args: Any, **kwargs: Any) -> None:
        """Save as PEFT does, and add the training state while a run is unfinished.

        `save_training_state=True` marks a checkpoint of an unfinished run, and `False` leaves the
        state out, as in `AdaLoraModel.save_pretrained`.

        Under FSDP2 every process has to call it; the first process writes. With `state_dict`, the
        whole tensors of `model.state_dict()`, one process writes the adapter alone.

        Raises:
            ValueError: the subfolder of an adapter is outside of `save_directory`; nothing was
                written.
        """
        if not is_adalora(self):
            _peft_save(self, save_directory, *args, **kwargs)
            return
        call = _SAVE_SIGNATURE.bind(self, save_directory, *args, **kwargs)
        given, target, tuner = call.arguments, Path(save_directory), self.base_model
        options = given.setdefault("kwargs", {})
        save = Save(
            self, adapters.trained_adapters(tuner), target,
            with_state=options.pop("save_training_state", None),
            is_main_process=given.get("is_main_process", True),
            has_tensors=options.get("state_dict") is not None,
        )  # fmt: skip
        given["is_main_process"] = save.writes
        if save.gathers:
            options["state_dict"] = {
                name: whole(tensor)
                for name, tensor in self.state_dict().items()
                if any(part in name for part in (".lora_", ".modules_to_save."))
                or name.endswith("bias")
            }
        names = given.get("selected_adapters") or adapters.configs_of(tuner)
        folders = {name: files.folder_of(target, name) for name in names}
        known = [adapters.adapter_of(tuner, name) for name in adapters.configs_of(tuner)]
        warn_if_untrained_is_chosen([each for each in known if each.name in folders], known)
        stages = save.writes and not target.is_file()
        with _staging(target) if stages else contextlib.nullcontext(target) as staging:
            given["save_directory"] = str(staging)
            with warnings.catch_warnings():
                # PEFT mistakes the empty tensors of a module at rank 0 for a failed gather.
                warnings.filterwarnings("ignore", ".*LoRA tensor.* have invalid shape")
                with tuner.saving():
                    _peft_save(*call.args, **call.kwargs)
            trained = {each.name: each for each in adapters.trained_adapters(tuner)}
            for adapter in trained.values():
                # PEFT has put the pattern of the file into the configuration.
                adapter.sync_pattern()
            for name, folder in folders.items():
                if save.writes:
                    place = staging / folder.relative_to(target)
                    config = place / files.CONFIG_NAME  # as this package writes it
                    config.write_bytes(files.encode_config(json.loads(config.read_bytes())))
                    commit_staged(save, place, folder, trained.get(name))
                elif save.gathers and name in trained:
                    save.commit(folder, trained[name], Files(b"", b"{}", list))

    def load_adapter(
        self,
        model_id: Any,
        adapter_name: str,
        is_trainable: bool = False,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Load as PEFT does, into an adapter of any rank, and restore the training state.

        Raises:
            CheckpointError: the adapter is malformed, or its training state is damaged or of
                another run; nothing was loaded.
            ConfigError: the configuration in the folder breaks the contract; nothing was loaded.
            ParallelismError: the adapter is divided by FSDP2, and the file has fewer triplets.
        """
        if not is_adalora(self):
            return _peft_load(self, model_id, adapter_name, is_trainable, *args, **kwargs)
        tuner = self.base_model
        folder = Path(str(model_id))
        existing = adapters.configs_of(tuner).get(adapter_name)
        learns = is_trainable or (existing is not None and not existing.inference_mode)
        with locked(folder, shared=True):  # PEFT reads it again
            saved, state = checked_save(folder, adapter_name, existing, with_state=learns)
            has_state = state is not None
            reshard(self)
            if existing is not None and saved is not None and are_sharded(self.parameters()):
                _bind(tuner, adapter_name, saved)
                adapters.fill_divided_adapter(tuner, adapter_name, saved, state)
                if learns:
                    begin_loaded_run(adapters.adapter_of(tuner, adapter_name), has_state=has_state)
                return _IncompatibleKeys([], [])
            with _unchanged_on_error(self, adapter_name, saved):
                if existing is not None and saved is not None:
                    # PEFT reads the configuration only for a new adapter.
                    pattern = saved.config.rank_pattern
                    _bind(tuner, adapter_name, saved)
                    adapters.configs_of(tuner)[adapter_name].rank_pattern = pattern
                    positions = pattern_positions(pattern, adapter_name)
                    adapters.resize_adapter(tuner, adapter_name, positions)
                result = _peft_load(self, model_id, adapter_name, is_trainable, *args, **kwargs)
                if learns:
                    begin_loaded_run(adapters.adapter_of(tuner, adapter_name), has_state=has_state)
                if state is not None:
                    adapters.resume(tuner, adapter_name, state)
            return result


class PlainModelOverrides(ModelOverrides):
    """Methods of a `PeftModel` without a task type, whose forward does not reach the tuner."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model; in training mode add the penalty to `outputs.loss`."""
        if not is_adalora(self):
            return _peft_forward(self, *args, **kwargs)
        check_forward(self.base_model)
        return add_penalty(self.base_model, _peft_forward(self, *args, **kwargs), kwargs)


class BuiltModelOverrides(PlainModelOverrides):
    """Methods of `PeftModel` after `install()`."""

    def __init__(self, model: nn.Module, peft_config: Any, *args: Any, **kwargs: Any) -> None:
        """Wrap `model` as PEFT does; a configuration of this package becomes one of PEFT."""
        if isinstance(peft_config, AdaLoraConfig):
            peft_config = to_peft_config(peft_config)
        _peft_init(self, model, peft_config, *args, **kwargs)
        if is_adalora(self):
            register(self)

    @classmethod
    def from_pretrained(cls: Any, *args: Any, **kwargs: Any) -> Any:
        """Load as PEFT does, and an adapter that is trained on the base model in place.

        PEFT would replace the parameters of the adapter, which an optimizer holds, and freeze them.
        Here the model that is trained gets the saved values and the training state beside them, and
        is returned. The adapter stays trainable.
        """
        given = _LOAD_SIGNATURE.bind(cls, *args, **kwargs).arguments
        given.pop("cls")
        name = given.setdefault("adapter_name", "default")
        refuse_other_than_module(given["model"])
        around = model_around(given["model"])
        config = adapters.configs_of(around.base_model).get(name) if is_adalora(around) else None
        # `unload()` takes the layers away and leaves the configuration.
        layers = adalora_layers(around.base_model.model) if config else ()
        if config and not config.inference_mode and any(name in each.lora_A for _, each in layers):
            del given["model"]
            given.pop("config", None)
            around.load_adapter(**given.pop("kwargs", {}), **given)
            return around
        token = loading.set(name)
        try:
            with locked(Path(str(given["model_id"])), shared=True):
                return _peft_from_pretrained(cls, *args, **kwargs)
        except (OSError, ValueError) as error:
            if not Path(source := str(given["model_id"])).exists():
                # PEFT then asks the Hub, and its error is about the connection.
                error.add_note(f"No folder {source!r} was found here; correct the path or the id")
            raise
        finally:
            loading.reset(token)


def is_adalora(model: object) -> TypeGuard[BridgedModel]:
    """Return whether `model` is a `PeftModel` around PEFT's AdaLoRA tuner."""
    return isinstance(model, PeftModel) and isinstance(model.base_model, AdaLoraModel)


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """Yield a folder in `target` for what PEFT writes, and move the model card to `target`."""
    target.mkdir(parents=True, exist_ok=True)
    with staging_folder(target) as folder:
        card = folder / "README.md"
        if (target / card.name).is_file():
            card.write_bytes((target / card.name).read_bytes())  # PEFT updates it
        yield folder
        if card.is_file():
            write_file(target / card.name, card.read_bytes())


def commit_staged(save: Save, staging: Path, target: Path, adapter: Adapter | None) -> None:
    """Replace the save in `target` by what PEFT has written into `staging`."""
    path = files.weights_in(staging)
    if path is None:
        return
    weights, config = path.read_bytes(), (staging / files.CONFIG_NAME).read_bytes()
    names = functools.partial(files.read_tensors, staging)
    save.commit(target, adapter, Files(weights, config, names, path.name))


def checked_save(
    folder: Path, name: str, existing: Any, *, with_state: bool
) -> tuple[files.SavedAdapter | None, TrainingState | None]:
    """Return the adapter in `folder` and its training state after all checks that need no model.

    Both are None without weights in `folder`: PEFT looks for them on a hub. `existing` is the
    configuration of the adapter `name`, if there is one: the state has to be of that run.
    """
    with locked(folder, shared=True):
        state = read_state(folder) if with_state else None
        if files.weights_in(folder) is None:
            return None, None
        saved = files.read_adapter(folder, None if state is None else state.values["config"])
    positions = row_positions(saved)
    if state is None:
        return saved, None
    # PEFT's file cannot name it.
    refuse_other_criterion(state.values, name, saved.config if existing is None else existing)
    state.complete(saved, positions)
    paths, spec = list(state.values["positions"]), AdapterSpec.of(saved.config)
    wanted = spec if existing is None else AdapterSpec.of(existing)
    if wanted.total_step is None:  # "auto": the file has the number
        wanted = dataclasses.replace(wanted, total_step=spec.total_step)
    if fingerprint(wanted, paths) != fingerprint(spec, paths):
        raise CheckpointError(
            f"load_adapter: the adapter exists with another schedule than the one in "
            f"{str(folder)!r}; nothing was loaded"
        )
    return saved, state


def _bind(tuner: Host, name: str, saved: files.SavedAdapter) -> None:
    if isinstance(saved.config.total_step, int):
        adapters.bind_total_step(tuner, name, saved.config.total_step)


@contextlib.contextmanager
def _unchanged_on_error(
    model: BridgedModel, name: str, saved: files.SavedAdapter | None
) -> Iterator[None]:
    """Restore the adapter `name`, or remove it if it is new, where the body fails.

    PEFT compares shapes with the model while it copies.
    """
    tuner = model.base_model
    bridge, config = adapters.state_of(tuner), adapters.configs_of(tuner).get(name)
    tables: list[dict[str, Any]] = [bridge.adapters, bridge.positions]
    before = [table.get(name) for table in tables]
    pattern = None if config is None else config.rank_pattern
    values = [
        (each, each.data, each.data.clone(), each.grad)
        for path, each in tuner.model.named_parameters()
        if name in path.split(".") or (saved is not None and path in saved.tensors)
    ]
    try:
        yield
    except Exception as error:
        if config is None:
            if name in adapters.configs_of(tuner):
                model.delete_adapter(name)
        else:
            adapters.configs_of(tuner)[name], config.rank_pattern = config, pattern
        for each, data, copy, grad in values:
            each.data, each.grad = data.copy_(copy), grad
        for table, entry in zip(tables, before, strict=True):
            table.pop(name, None)
            if entry is not None:
                table[name] = entry
        if saved is None or type(error) is not RuntimeError:  # as of memory or of processes
            raise
        found = visible(" ".join(str(error).split()))
        raise CheckpointError(
            f"load_adapter: {str(saved.folder)!r} does not fit the model ({found}); nothing was "
            "loaded"
        ) from error
