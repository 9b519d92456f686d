"""Keep the allocation state of a bridged tuner."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from peft.tuners.adalora.layer import AdaLoraLayer
from peft.utils import ModulesToSaveWrapper

from adalora_core.contract.findings import ConfigWarning
from adalora_core.contract.loading import errors_in
from adalora_core.contract.rules.runs import SelectionMatchesNothing
from adalora_core.expressions.matching import Matcher, Method
from adalora_core.integrations.peft.allocator import show_averages
from adalora_core.integrations.peft.layers import adalora_layers, set_rank
from adalora_core.rank_pattern import pattern_positions
from adalora_core.training.adapter import Adapter
from adalora_core.training.agreement import AgreementCheck
from adalora_core.training.configuration import use_plain_numbers, written_values
from adalora_core.training.parallelism import DivisionCheck
from adalora_core.training.penalty_per_step import PenaltyPerStep
from adalora_core.training.run.reporting import frames_inside
from adalora_core.training.targets import candidates, unmatched_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_ATTRIBUTE = "_adalora_bridge"


class BridgeState:
    """The state of a bridged tuner beside PEFT's own attributes.

    Attributes:
        adapters: the adapters by name, created at their first use.
        positions: which original triplets the rows of a loaded adapter are, by name and module.
        penalty_per_step: decides which forwards of an optimizer step add the penalty.
        division: checks whether the model is divided over processes in a way that trains wrongly.
        agreement: compares the processes of a run.
        stale: names of adapters whose configuration does not show the newest allocation yet.
        is_saving: whether `save_pretrained` writes files, which hold what the model computes.
    """

    def __init__(self) -> None:
        self.adapters: dict[str, Adapter] = {}
        self.positions: dict[str, dict[str, list[int]]] = {}
        self.penalty_per_step = PenaltyPerStep()
        self.division = DivisionCheck()
        self.agreement = AgreementCheck()
        self.stale: set[str] = set()
        self.is_saving = False


def state_of(tuner: Any) -> BridgeState:
    """Return the state of `tuner`, created at the first call."""
    return tuner.__dict__.setdefault(_ATTRIBUTE, BridgeState())  # type: ignore[no-any-return]


def remove_state(tuner: Any) -> None:
    """Update the configurations, and remove the state of `tuner`."""
    sync_patterns(tuner)
    tuner.__dict__.pop(_ATTRIBUTE, None)


def configs_of(tuner: Any) -> dict[str, Any]:
    """Return PEFT's configurations as stored, without an update."""
    # PEFT uses the dictionary of a base model that brings one along.
    configs: dict[str, Any] = vars(tuner).get("peft_config") or tuner.model.peft_config
    return configs


def sync_patterns(tuner: Any) -> None:
    """Write the newest allocations into PEFT's configurations."""
    state = tuner.__dict__.get(_ATTRIBUTE)
    while state is not None and state.stale:
        adapter = state.adapters.get(state.stale.pop())
        if adapter is not None:
            adapter.sync_pattern()


def adapter_of(tuner: Any, name: str) -> Adapter:
    """Return the adapter `name`; its numbers follow changes of PEFT's configuration."""
    state = state_of(tuner)
    config = configs_of(tuner)[name]
    adapter = state.adapters.get(name)
    if adapter is None or adapter.config is not config:
        use_plain_numbers(config)
        adapter = Adapter(name, config)
        known = state.positions.get(name) or pattern_positions(config.rank_pattern, name)
        for path, layer in adalora_layers(tuner.model):
            if name in layer.lora_A:
                rank = int(layer.lora_E[name].shape[0])
                rows = known.get(path, [])
                adapter.add_layer(path, layer, rows if len(rows) == rank else list(range(rank)))
        if adapter.is_trainable:
            adapter.start_allocation()
            show_averages(tuner, adapter)
        state.adapters[name] = adapter
    adapter.follow_config()
    return adapter


def trained_adapters(tuner: Any) -> list[Adapter]:
    """Return the active adapters that are made for training; PEFT allows one."""
    configs = configs_of(tuner)
    found = [
        adapter_of(tuner, name)
        for name in tuner.active_adapters
        if name in configs and not configs[name].inference_mode
    ]
    # `unload()` takes the layers away and leaves the configuration.
    return [each for each in found if each.layers]


def resize_adapter(tuner: Any, name: str, positions: dict[str, list[int]]) -> None:
    """Resize every module of the adapter `name` to the rows in `positions`, else to `init_r`."""
    init_r = configs_of(tuner)[name].init_r
    for path, layer in adalora_layers(tuner.model):
        if name in layer.lora_A:
            set_rank(layer, name, len(positions[path]) if path in positions else init_r)
    state = state_of(tuner)
    state.positions[name] = positions
    state.adapters.pop(name, None)


def refuse_slow_expressions(config: Any, paths: Sequence[str]) -> None:
    """Refuse a configuration whose expressions PEFT would match against `paths` for too long.

    Raises:
        ExpressionError: an expression takes too long.
    """
    matcher = Matcher()
    for field, method, pattern in _expressions(config):
        matcher.rehearse(method, pattern, paths, field)


def _expressions(config: Any) -> Iterator[tuple[str, Method, str]]:
    """Yield the fields, the functions of `re` and the expressions that PEFT makes of them."""
    for field in ("target_modules", "exclude_modules"):
        value = getattr(config, field)
        if isinstance(value, str):
            yield field, "fullmatch", value
    layers = config.layers_pattern or ()
    for each in [layers] if isinstance(layers, str) else layers:
        yield "layers_pattern", "match", rf"(?:^|.*?\.){each}\.(?P<idx>\d+)\."
    for each in config.modules_to_save or ():
        yield "modules_to_save", "match", rf"(^|.*\.){each}($|\..*)"
    for field in ("rank_pattern", "alpha_pattern"):
        for key in getattr(config, field) or ():
            yield field, "match", rf"(.*\.)?({key})$"


def report_faults(tuner: Any) -> None:
    """Warn of faults in the trained configurations, which PEFT accepts in silence."""
    for adapter in trained_adapters(tuner):
        values = written_values(adapter.config)
        for fault in errors_in(values):
            warnings.warn(
                f"{fault.code}: the configuration of the adapter {adapter.name!r} has a fault: "
                f"{fault.message}. To do: {fault.hint} (adalora rule {fault.code})",
                ConfigWarning,
                stacklevel=frames_inside(),
            )


def report_unmatched(tuner: Any) -> None:
    """Warn of entries of the trained configurations that match no module."""
    paths = [path for path, _ in candidates(tuner.model, (AdaLoraLayer, ModulesToSaveWrapper))]
    for adapter in trained_adapters(tuner):
        config = adapter.config
        unmatched = [] if config.rank_pattern else unmatched_entries(config, paths)
        if unmatched:
            adapter.run.report(SelectionMatchesNothing, "; ".join(unmatched))
