"""Hold one adapter of a model: its configuration, which is checked first, layers and allocator."""

from __future__ import annotations

import copy
import dataclasses
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from adalora_core.allocation import AdaptedMatrix, AllocationReport, RankAllocator
from adalora_core.config.fields.block import AUTO
from adalora_core.config.fields.readings import exact
from adalora_core.config.fields.table import FIELDS, OWN_FIELDS, PEFT_TYPE
from adalora_core.config.model import AdaLoraConfig, config_of
from adalora_core.config.rules import runs
from adalora_core.floor.adapter_spec import AdapterSpec
from adalora_core.floor.rank_pattern import SINGULAR_VALUES_SUFFIX, RankPattern
from adalora_core.nn import AdaLoraLayer
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.sharding import whole
from adalora_core.training.run.optimizers import held_by
from adalora_core.training.run.reporting import refuse
from adalora_core.training.run.watch import RunWatch
from adalora_core.training.run.watchers import WATCHERS

SCHEDULE_FIELDS = (
    "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step",
    "importance_criterion",
)  # fmt: skip
"""Fields that may be assigned until the first step."""

_KEEPING: weakref.WeakSet[Adapter] = weakref.WeakSet()


class Adapter:
    """One adapter: everything about it but its parameters, which are in the layers.

    `sync_pattern` updates the `rank_pattern` of `config`, which `is_stale` while it may not show
    the newest allocation. `positions` has the original triplets (0 to `init_r - 1`) that the rows
    of each module are. The allocator is None while the adapter is frozen, and until `total_step` is
    known.
    """

    def __init__(self, name: str, config: AdaLoraConfig) -> None:
        self.name = name
        self.config = config
        self.spec = AdapterSpec.of(config)
        self.layers: dict[str, AdaLoraLayer] = {}
        self.positions: dict[str, list[int]] = {}
        self.allocator: RankAllocator | None = None
        self.run = RunWatch(name, WATCHERS)
        self.is_stale = False
        self._followed: list[Any] = []

    @classmethod
    def keeping(cls, name: str, config: AdaLoraConfig) -> Adapter:
        """Return an adapter that keeps the object `config`.

        An adapter that has kept it so far goes on with a copy, since it has its own rank pattern.
        """
        for other in _KEEPING:
            if other.config is config:
                other.config = copy.deepcopy(config)
        adapter = cls(name, config)
        _KEEPING.add(adapter)
        return adapter

    @property
    def is_trainable(self) -> bool:
        """Whether the adapter is made for training, by its `inference_mode`."""
        return not self.config.inference_mode

    def start_allocation(self) -> None:
        """Make the allocator of a trainable adapter, unless `total_step` is "auto": not known yet.

        Raises:
            ValueError: `total_step` is not set.
        """
        if self.config.total_step == AUTO or not self.is_trainable:
            return
        self.allocator = RankAllocator(self.spec, self.matrices())
        self.run.begin(self.allocator)

    def bind_total_step(self, total_step: int) -> None:
        """Replace a `total_step` of "auto" and start the allocation; a number stays as it is.

        Raises:
            ConfigError: the schedule does not fit into `total_step` steps.
        """
        if self.config.total_step != AUTO:
            return
        bound = copy.deepcopy(self.config)  # other models may be made of the one with "auto"
        bound.total_step = total_step
        self.config = check_in_place(bound)
        self.spec = AdapterSpec.of(bound)
        self.start_allocation()

    def matrices(self) -> list[AdaptedMatrix]:
        """Return the places of the factors of every matrix."""
        # nn.Module keeps these private dictionaries when parameters are replaced.
        return [
            AdaptedMatrix(path, A._parameters, E._parameters, B._parameters, self.name)  # noqa: SLF001
            for path, each in self.layers.items()
            for A, E, B in [(each.lora_A, each.lora_E, each.lora_B)]
        ]

    def factors(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return A of every layer, and B of every layer."""
        # Without nn.Module's slow __getattr__: every step asks.
        stores: list[dict[str, Any]] = [each._modules for each in self.layers.values()]  # noqa: SLF001
        name = self.name
        return (
            [each["lora_A"]._parameters[name] for each in stores],  # noqa: SLF001
            [each["lora_B"]._parameters[name] for each in stores],  # noqa: SLF001
        )

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return A, E and B of every layer."""
        layers = self.layers.values()
        return [getattr(layer, factor)[self.name] for layer in layers for factor in FACTORS]

    def follow_config(self) -> None:
        """Take over fields of the schedule that were assigned before the first step.

        Raises:
            ConfigError: the contract does not allow the values.
            RunError: a field was assigned later.
        """
        values = [getattr(self.config, field, None) for field in SCHEDULE_FIELDS]
        if values == self._followed:
            return
        wanted = AdapterSpec.of(self.config)
        new, old = (
            {each: getattr(s, each) for each in SCHEDULE_FIELDS} for s in (wanted, self.spec)
        )
        changed = [field for field in SCHEDULE_FIELDS if new[field] != old[field]]
        if changed and self.allocator is not None and self.allocator.last_step is not None:
            was = ", ".join(f"{field} from {old[field]} to {new[field]}" for field in changed)
            after = f"after step {self.allocator.last_step} of the adapter {self.name!r}"
            refuse(runs.ScheduleChanged, f"{after} its configuration was changed: {was}")
            return
        if changed and isinstance(self.config, AdaLoraConfig):
            checked_copy(self.config)
        self._followed = values
        if changed:
            self.spec = dataclasses.replace(self.spec, **new)
            self.start_allocation()

    def allocate(self, step: int, penalties: int, additions: int = 0) -> AllocationReport:
        """Call the allocator after one optimizer step, and report what looks wrong.

        `penalties` is how often a loss had the penalty: 0, 1 or 2; `additions`, how often its
        gradient was added.

        Raises:
            RunError: the schedule was changed after the first step.
            RuntimeError: `total_step` is not known yet.
        """
        self.follow_config()
        if self.allocator is None:
            raise RuntimeError(
                f"update_and_allocate: total_step of the adapter {self.name!r} is still {AUTO!r}; "
                "call model.bind_total_step(optimizer_steps_of_the_run) before training, or use "
                "AdaLoraCallback, which does so"
            )
        run, allocator = self.run, self.allocator
        # A hook calls at every step, those that train a head first among them.
        if allocator.is_frozen and run.driver is None:
            act = run.report if run.optimizer_steps else refuse
            act(
                runs.NothingTrainable,
                f"update_and_allocate: all {3 * len(allocator.matrices)} factors of the adapter "
                f"{self.name!r} are {self._how_frozen()}, after {run.optimizer_steps} steps of the "
                "optimizer",
            )
        last, was_final = allocator.last_step, allocator.target_reached
        done = allocator.step(step)
        self.is_stale |= done.allocated
        if allocator.target_reached and not was_final:
            self.sync_pattern()
        run.see_allocation(done, last, penalties, additions)
        return done

    def see_loaded(self, missing: Sequence[str], unexpected: Sequence[str]) -> None:
        """See that `load_state_dict` has written factors, but for those of the keys `missing`."""
        ends = (key.rpartition(".") for key in missing)
        lacking = Counter(start.rpartition(".")[2] for start, _, name in ends if name == self.name)
        count = len(self.layers)
        came = [factor for factor in FACTORS if lacking[factor] < count]
        if came and self.run.begin_anew():
            self.start_allocation()
        if "lora_E" not in came and (came or any("lora_" in each for each in unexpected)):
            self.run.report(
                runs.FileLacksTrainedWeights,
                f"load_state_dict gave the adapter {self.name!r} {' and '.join(came) or 'nothing'} "
                f"and no lora_E; {len(unexpected)} keys fit nothing, {[*unexpected[:1]]} first",
            )

    def drop_again(self) -> None:
        """Zero the triplets that the final kept set drops; a later step may have changed them."""
        if self.allocator is not None and self.allocator.target_reached:
            self.allocator.finalize()

    def refuse_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an optimizer that does not hold all factors of the adapter."""
        factors = self.parameters()
        held = len(held_by(optimizer, factors))
        if held < len(factors):
            is_frozen = not any(each.requires_grad for each in factors)
            refuse(
                runs.NothingTrainable if is_frozen else runs.OptimizerWithoutFactors,
                f"{type(optimizer).__name__} holds {held} of the {len(factors)} factors of the "
                f"adapter {self.name!r}"
                + (f", which are all {self._how_frozen()}" if is_frozen else ""),
            )

    def _how_frozen(self) -> str:
        is_disabled = any(getattr(each, "disable_adapters", False) for each in self.layers.values())
        return "disabled by disable_adapter_layers()" if is_disabled else "frozen"

    # --- rank patterns --------------------------------------------------------------------------

    def rank_pattern(
        self, *, live: bool = False, singular_values: Mapping[str, torch.Tensor] | None = None
    ) -> RankPattern | None:
        """Return the kept triplets of every matrix as lists of length `init_r`, or None.

        None means that there was no allocation so far, as in PEFT's files. With `live`, dropped
        triplets whose singular value is not zero any more count, so that the pattern describes what
        the model computes. `singular_values` are whole E by module path; without them every process
        gathers those of divided layers.
        """
        allocated = self.allocator is not None and self.allocator.mask is not None
        pruned = any(len(rows) < self.spec.init_r for rows in self.positions.values())
        if not allocated and not pruned:
            return None
        kept = self.allocator.kept() if self.allocator is not None else {}
        pattern: RankPattern = {}
        for path, layer in self.layers.items():
            rows = self.positions[path]
            flags = kept.get(path, [True] * len(rows))
            if live:
                E = layer.lora_E[self.name] if singular_values is None else singular_values[path]
                nonzero = (whole(E.detach()) != 0).flatten().tolist()
                flags = [flag or value for flag, value in zip(flags, nonzero, strict=True)]
            full = [False] * self.spec.init_r
            for row, flag in zip(rows, flags, strict=True):
                full[row] = flag
            pattern[f"{path}{SINGULAR_VALUES_SUFFIX}"] = full
        return pattern

    def rows_in(self, pattern: RankPattern | None, path: str) -> list[int]:
        """Return the rows of the module `path` that `pattern` keeps; None keeps all of them."""
        places = self.positions[path]
        kept = None if pattern is None else pattern[f"{path}{SINGULAR_VALUES_SUFFIX}"]
        return [row for row, place in enumerate(places) if kept is None or kept[place]]

    def sync_pattern(self) -> None:
        """Write the kept set into `config.rank_pattern`, keyed as PEFT keys it in memory."""
        self.is_stale = False
        kept = self.rank_pattern()
        pattern = kept and {f"{key}.{self.name}": flags for key, flags in kept.items()}
        if pattern is not None and pattern != self.config.rank_pattern:
            self.config.rank_pattern = pattern


def checked_copy(config: Any, **changes: Any) -> AdaLoraConfig:
    """Return a copy of `config` with `changes` after the whole contract.

    Raises:
        ConfigError: the configuration breaks the contract.
        TypeError: `config` is not an AdaLoraConfig of this package or of PEFT.
    """
    return config_of(run_values(config) | changes)


def check_in_place(config: Any) -> Any:
    """Return `config` itself after `checked_copy`, so that later assignments count."""
    checked_copy(config)
    use_plain_numbers(config)
    return config


def use_plain_numbers(config: Any) -> None:
    """Replace numbers of NumPy, and floats like 8.0 for 8: shapes and files need plain ones."""
    for name, field in FIELDS.items():
        value = getattr(config, name, None)
        if field.is_number and value is not None:
            setattr(config, name, exact(value, name))


def run_values(config: Any) -> dict[str, Any]:
    """Return `written_values`, and the fields of this package that no file holds."""
    own = {name: getattr(config, name) for name in OWN_FIELDS if hasattr(config, name)}
    return written_values(config) | own


def written_values(config: Any) -> dict[str, Any]:
    """Return the content of `adapter_config.json` for a configuration, of PEFT or of this package.

    Raises:
        TypeError: `config` is not an AdaLoraConfig of this package or of PEFT.
    """
    if isinstance(config, AdaLoraConfig):
        return config.to_json_dict()
    method = getattr(config, "peft_type", None)
    if getattr(method, "value", method) != PEFT_TYPE or not hasattr(config, "to_dict"):
        raise TypeError(
            f"peft_config: expected an AdaLoraConfig of adalora_core or of PEFT, got "
            f"{type(config).__module__}.{type(config).__name__}; other methods are PEFT's: call "
            "peft.get_peft_model"
        )
    values = config.to_dict()
    written = [name for name, field in sorted(FIELDS.items()) if field.written and name in values]
    return {name: exact(values[name], name) for name in written}
