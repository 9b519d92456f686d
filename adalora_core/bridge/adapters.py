"""Keep the allocation state of a bridged tuner, and give the tuner back to PEFT."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import nn

from adalora_core.bridge.layers import INITIAL_RANKS, adalora_layers, set_rank, watch_states
from adalora_core.config.findings import ConfigWarning
from adalora_core.config.model import faults_in
from adalora_core.config.rules.runs import SelectionMatchesNothing
from adalora_core.floor.errors import RunError
from adalora_core.floor.matching import Matcher
from adalora_core.floor.rank_pattern import pattern_positions
from adalora_core.nn.adapter_layer import FACTORS, TRIPLET_AXES
from adalora_core.nn.wrapping import return_to_fast_path
from adalora_core.training.adapter import Adapter, use_plain_numbers, written_values
from adalora_core.training.adapter_file.folder import SavedAdapter
from adalora_core.training.adapter_file.tensors import divided_places, fill_divided
from adalora_core.training.host import Host, TrainingRun
from adalora_core.training.run.reporting import frames_inside
from adalora_core.training.targets import candidates, unmatched_entries
from adalora_core.training.training_state.state import TrainingState, restore_allocator

_ATTRIBUTE = "_adalora_bridge"

CONFIGS = "_adalora_configs"
"""Where a tuner keeps its configurations a second time. Before torch 2.11 a compiled model takes
`__dict__["peft_config"]` for the property of that name, without end."""

_PEFT_MODULE = "peft.tuners.adalora.layer"

_AVERAGES = {"ipt": None, "exp_avg_ipt": "smoothed", "exp_avg_unc": "uncertainty"}
"""Attributes of PEFT's allocator, and of the statistics that replace it."""


class BridgedRun(TrainingRun):
    """The state of a bridged tuner beside PEFT's own attributes.

    `positions` has the original triplets of a loaded adapter's rows, by name and module.
    `is_saving` is true while `save_pretrained` writes files, which hold what the model computes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.adapters: dict[str, Adapter] = {}
        self.positions: dict[str, dict[str, list[int]]] = {}
        self.is_saving = False

    def is_disabled(self, model: nn.Module) -> bool:
        """Return whether PEFT has disabled the adapters of `model`."""
        _, layer = next(adalora_layers(model), (None, None))
        return layer is None or bool(layer.disable_adapters)


def state_of(tuner: Host) -> BridgedRun:
    """Return the state of `tuner`, created at the first call."""
    state: BridgedRun | None = tuner.__dict__.get(_ATTRIBUTE)
    if state is None:
        state = tuner.__dict__[_ATTRIBUTE] = BridgedRun()
        watch_states(tuner)
        tuner.register_load_state_dict_post_hook(see_loaded)  # type: ignore[no-untyped-call]  # of torch
    return state


def see_loaded(tuner: Host, keys: Any) -> None:
    """See that `load_state_dict` has written factors of `tuner`, also after it was detached."""
    state: BridgedRun | None = tuner.__dict__.get(_ATTRIBUTE)
    for adapter in () if state is None else state.adapters.values():
        adapter.see_loaded(keys.missing_keys, keys.unexpected_keys)


def configs_of(tuner: Host) -> dict[str, Any]:
    """Return PEFT's configurations as stored, without an update."""
    stored = vars(tuner)
    # PEFT uses the dictionary of a base model that brings one along.
    return stored.get(CONFIGS) or stored.get("peft_config") or tuner.model.peft_config  # type: ignore[return-value]


def sync_patterns(tuner: Host) -> None:
    """Write the newest allocations into PEFT's configurations."""
    state: BridgedRun | None = tuner.__dict__.get(_ATTRIBUTE)
    for adapter in () if state is None else state.adapters.values():
        if adapter.is_stale:
            adapter.sync_pattern()


def adapter_of(tuner: Host, name: str) -> Adapter:
    """Return the adapter `name`; its numbers follow changes of PEFT's configuration."""
    state = state_of(tuner)
    config = configs_of(tuner)[name]
    adapter = state.adapters.get(name)
    if adapter is None or adapter.config is not config:
        use_plain_numbers(config)
        adapter = Adapter(name, config)
        adapter.run.automatic.host = weakref.ref(tuner)
        known = state.positions.get(name) or pattern_positions(config.rank_pattern, name)
        for path, layer in adalora_layers(tuner.model):
            if name in layer.lora_A:
                rank = int(layer.lora_E[name].shape[0])
                rows = known.get(path, [])
                adapter.layers[path] = layer
                adapter.positions[path] = rows if len(rows) == rank else list(range(rank))
        if adapter.is_trainable:
            adapter.start_allocation()
            show_averages(tuner, adapter)
        state.adapters[name] = adapter
    adapter.follow_config()
    return adapter


def trained_adapters(tuner: Host) -> list[Adapter]:
    """Return the active adapters that are made for training; PEFT allows one."""
    trained = {name for name, each in configs_of(tuner).items() if not each.inference_mode}
    found = [adapter_of(tuner, name) for name in tuner.active_adapters if name in trained]
    # `unload()` takes the layers away and leaves the configuration.
    return [each for each in found if each.layers]


def bind_total_step(tuner: Host, name: str, total_step: int) -> None:
    """Replace a `total_step` of "auto" in the configuration and in the adapter `name`."""
    adapter = adapter_of(tuner, name)
    adapter.bind_total_step(total_step)
    configs_of(tuner)[name] = adapter.config
    if adapter.allocator is not None:
        show_averages(tuner, adapter)


def resize_adapter(tuner: Host, name: str, positions: dict[str, list[int]]) -> None:
    """Resize every module of the adapter `name` to the rows in `positions`, else to `init_r`."""
    init_r = configs_of(tuner)[name].init_r
    for path, layer in adalora_layers(tuner.model):
        if name in layer.lora_A:
            set_rank(layer, name, len(positions[path]) if path in positions else init_r)
    state = state_of(tuner)
    state.positions[name] = positions
    state.adapters.pop(name, None)


def resume(tuner: Host, name: str, state: TrainingState) -> None:
    """Continue the run of `state` with the adapter `name`."""
    resize_adapter(tuner, name, state.values["positions"])
    adapter = adapter_of(tuner, name)
    with torch.no_grad():
        for path, layer in adapter.layers.items():
            for factor in FACTORS:
                getattr(layer, factor)[name].copy_(state.factors[f"{path}.{factor}"])
    restore_allocator(adapter, state)
    adapter.is_stale = True


def fill_divided_adapter(
    tuner: Host, name: str, saved: SavedAdapter, state: TrainingState | None
) -> None:
    """Give the adapter `name` the values of a save, as every process does, and restore its run."""
    tensors = saved.tensors | ({} if state is None else state.factors)
    places = divided_places(tuner.model, name, tensors, saved.folder)
    fill_divided(places)
    configs_of(tuner)[name].rank_pattern = saved.config.rank_pattern
    bridge = state_of(tuner)
    bridge.adapters.pop(name, None)
    if state is not None:
        bridge.positions[name] = state.values["positions"]
        adapter = adapter_of(tuner, name)
        restore_allocator(adapter, state)
        adapter.is_stale = True


def refuse_slow_expressions(config: Any, paths: Sequence[str]) -> None:
    """Refuse a configuration whose expressions PEFT may match against `paths` for too long."""
    matcher, path = Matcher(), max(paths, key=len, default="")
    for field in ("target_modules", "exclude_modules"):
        if isinstance(value := getattr(config, field), str):
            matcher.refuse_slow("fullmatch", value, path, field)
    layers = config.layers_pattern or ()
    for each in [layers] if isinstance(layers, str) else layers:
        matcher.refuse_slow("match", rf"(?:^|.*?\.){each}\.(?P<idx>\d+)\.", path, "layers_pattern")
    for each in config.modules_to_save or ():
        matcher.refuse_slow("match", rf"(^|.*\.){each}($|\..*)", path, "modules_to_save")
    for field in ("rank_pattern", "alpha_pattern"):
        for key in getattr(config, field) or ():
            matcher.refuse_slow("match", rf"(.*\.)?({key})$", path, field)


_SILENT = ("ADA203", "ADA405")
"""Warnings of the contract whose effect on a run nothing shows: pruning at once, alpha_pattern."""


def report_faults(tuner: Host) -> None:
    """Warn of faults in the trained configurations, and of entries that match no module.

    PEFT accepts them in silence.
    """
    paths = [path for path, _ in candidates(tuner.model, (AdaLoraLayer, ModulesToSaveWrapper))]
    for adapter in trained_adapters(tuner):
        config = adapter.config
        values = written_values(config)
        for fault in faults_in(values, *_SILENT):
            warnings.warn(
                f"{fault.code}: the configuration of the adapter {adapter.name!r} has a fault: "
                f"{fault.message}. To do: {fault.hint} (adalora rule {fault.code})",
                ConfigWarning,
                stacklevel=frames_inside(),
            )

        if not config.rank_pattern and (unmatched := unmatched_entries(config, paths)):
            adapter.run.report(SelectionMatchesNothing, "; ".join(unmatched))


def return_to_peft(tuner: Host) -> None:
    """Let PEFT's methods continue with `tuner`.

    PEFT masks rows by patterns of `init_r` entries, so that triplets which were cut out come back
    as zeros.
    """
    adapters = trained_adapters(tuner)
    for adapter in adapters:
        allocator = _allocator_of(tuner, adapter)
        for name in _AVERAGES if allocator is not None else ():
            # PEFT overwrites its sensitivities, and needs all three averages or none of a factor.
            shown = AverageView(adapter, "exp_avg_ipt" if name == "ipt" else name)
            setattr(allocator, name, {key: each.clone() for key, each in shown.items()})
    sync_patterns(tuner)
    for each in (_ATTRIBUTE, CONFIGS):
        tuner.__dict__.pop(each, None)
    for _, layer in adalora_layers(tuner.model):
        layer.__dict__.pop(INITIAL_RANKS, None)  # PEFT's forward again
    return_to_fast_path(tuner.model)
    for adapter in adapters:
        _restore_rows(adapter)


def _restore_rows(adapter: Adapter) -> None:
    rank = adapter.spec.init_r
    for path, layer in adapter.layers.items():
        rows = torch.tensor(adapter.positions[path], dtype=torch.long)
        for factor, axis in TRIPLET_AXES.items() if len(rows) < rank else ():
            parameter = getattr(layer, factor)[adapter.name]
            shape = list(parameter.shape)
            shape[axis] = rank
            kept, parameter.grad = parameter.data, None
            # In place: the optimizer and other holders of the parameter keep the same object.
            parameter.data = kept.new_zeros(shape).index_copy_(axis, rows.to(kept.device), kept)


class AverageView(Mapping[str, "torch.Tensor"]):
    """One average of an adapter, by PEFT's parameter names; reads the present values.

    `ipt` is |p·g| of the parameters that have a gradient now.
    """

    def __init__(self, adapter: Adapter, name: str) -> None:
        self._adapter = adapter
        self._name = name

    def __getitem__(self, key: str) -> torch.Tensor:
        return self._values()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values())

    def __len__(self) -> int:
        return len(self._values())

    def _values(self) -> dict[str, torch.Tensor]:
        allocator = self._adapter.allocator
        if allocator is None:
            return {}
        paths = [matrix.path for matrix in allocator.matrices]
        names = [f"{path}.{factor}.{self._adapter.name}" for path in paths for factor in FACTORS]
        source = _AVERAGES[self._name]
        if source is not None:
            return dict(zip(names, getattr(allocator.statistics, source), strict=False))
        pairs = zip(names, allocator.parameters(), strict=True)
        return {name: (p.detach() * p.grad).abs() for name, p in pairs if p.grad is not None}


def show_averages(tuner: Host, adapter: Adapter) -> None:
    """Let PEFT's allocator of `tuner` show the averages of `adapter`, if it trains this adapter."""
    allocator = _allocator_of(tuner, adapter)
    for name in _AVERAGES if allocator is not None else ():
        setattr(allocator, name, AverageView(adapter, name))


def follow_reset(tuner: Host, adapters: Iterable[Adapter]) -> None:
    """Begin the averages anew after a call of `reset_ipt()` on PEFT's allocator."""
    for adapter in adapters:
        allocator = _allocator_of(tuner, adapter)
        if allocator is None or isinstance(allocator.exp_avg_ipt, AverageView):
            continue
        if adapter.allocator is not None:
            adapter.allocator.statistics.release()
        show_averages(tuner, adapter)


def _allocator_of(tuner: Host, adapter: Adapter) -> Any:
    allocator = vars(tuner).get("rankallocator")
    return allocator if getattr(allocator, "adapter_name", None) == adapter.name else None


def refuse_changed_allocator(tuner: Host, purpose: str) -> None:
    """Refuse an allocator that was replaced, subclassed or patched: the bridge has its own."""
    allocator = vars(tuner).get("rankallocator")
    change = None if allocator is None else _change_in(allocator)
    if change is not None:
        raise RunError(
            f"{purpose}: the rankallocator of the model is not PEFT's own ({change}), and the "
            "bridge does not call it; train without the bridge: detach(model), or uninstall()"
        )


def _change_in(allocator: Any) -> str | None:
    for cls in type(allocator).__mro__[:-1] or (type(allocator),):
        if cls.__module__ != _PEFT_MODULE:
            return f"{cls.__module__}.{cls.__qualname__}"
        for name, member in vars(cls).items():
            is_known = _module_of(member) == _PEFT_MODULE or is_of_ms_swift(member)
            if callable(member) and not is_known:
                return f"{name} is replaced"
    replaced = next((name for name, each in vars(allocator).items() if callable(each)), None)
    return replaced and f"{replaced} is replaced"


def is_of_ms_swift(member: Any) -> bool:
    """Return whether ms-swift has put `member` in the place of a method of PEFT's AdaLoRA.

    An import of ms-swift does so, for models on several devices; the mathematics are PEFT's.
    """
    names = {"adalora_forward", "adalora_mask_to_budget"}
    return _module_of(member) == "swift.tuners.peft" and member.__name__ in names


def _module_of(member: Any) -> str | None:
    # functools.wraps copies __module__, and nothing copies the globals.
    return getattr(member, "__globals__", {}).get("__name__")
