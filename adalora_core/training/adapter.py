"""One adapter of a model: its configuration, its layers and its allocator."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from adalora_core.adapter_spec import AdapterSpec
from adalora_core.allocation import AdaptedMatrix, RankAllocator
from adalora_core.contract.fields.block import AUTO
from adalora_core.rank_pattern import SINGULAR_VALUES_SUFFIX
from adalora_core.sharding import whole
from adalora_core.training.configuration import checked_config

if TYPE_CHECKING:
    import torch

    from adalora_core.allocation import AllocationReport
    from adalora_core.contract import AdaLoraConfig
    from adalora_core.nn import AdaLoraLayer
    from adalora_core.rank_pattern import RankPattern

MISSED_STEPS_BEFORE_WARNING = 30
"""Optimizer steps without `update_and_allocate` until a warning.

LBFGS evaluates the loss up to 25 times within one step, moving the parameters in between.
"""


class AllocationNotRunningWarning(UserWarning):
    """Nobody calls `update_and_allocate`, or it never finds a gradient."""


class RepeatedStepWarning(UserWarning):
    """`update_and_allocate` gets one step twice, so its gradients are counted twice."""


class Adapter:
    """The state of one adapter that does not live in modules.

    Attributes:
        name: as in `lora_A.<name>`.
        config: the configuration; its `rank_pattern` is brought up to date by `sync_pattern`.
        spec: the same numbers for compute.
        layers: adapted modules by path, in the model's order.
        positions: for each module, which of its `init_r` original triplets its rows are. Shorter
            than `init_r` once triplets were cut out.
        allocator: None while the adapter is frozen.
    """

    def __init__(self, name: str, config: AdaLoraConfig) -> None:
        self.name = name
        self.config = config
        self.spec = AdapterSpec.of(config)
        self.layers: dict[str, AdaLoraLayer] = {}
        self.positions: dict[str, list[int]] = {}
        self.allocator: RankAllocator | None = None
        self._seen_version: int | None = None
        self._missed_steps = 0
        self._gradient_was_seen = False
        self._has_warned_of_repetition = False

    @property
    def is_trainable(self) -> bool:
        """Whether the adapter was made to be trained."""
        return not self.config.inference_mode

    def add_layer(self, path: str, layer: AdaLoraLayer, positions: list[int] | None = None) -> None:
        """Take `layer` in; its rows are the original triplets `positions`, None for all."""
        self.layers[path] = layer
        self.positions[path] = (
            list(range(layer.rank(self.name))) if positions is None else positions
        )

    def start_allocation(self) -> None:
        """Make the allocator.

        A `total_step` of "auto" has to be bound first: until then there is no schedule to follow.

        Raises:
            ValueError: `total_step` is not set.
        """
        if self.config.total_step == AUTO:
            return
        self.allocator = RankAllocator(self.spec, self.matrices())

    def bind_total_step(self, total_step: int) -> None:
        """Put a number in the place of `total_step: "auto"` and start; a number stays as it is.

        Raises:
            ConfigError: the schedule does not fit into `total_step` steps.
        """
        if self.config.total_step != AUTO:
            return
        self.config = checked_config(self.config.to_json_dict() | {"total_step": total_step})
        self.spec = AdapterSpec.of(self.config)
        if self.is_trainable:
            self.start_allocation()

    def matrices(self) -> list[AdaptedMatrix]:
        """Return where the factors of every matrix are."""
        # The private dictionaries are what nn.Module keeps when parameters are replaced.
        return [
            AdaptedMatrix(
                path,
                layer.lora_A._parameters,  # noqa: SLF001
                layer.lora_E._parameters,  # noqa: SLF001
                layer.lora_B._parameters,  # noqa: SLF001
                self.name,
            )
            for path, layer in self.layers.items()
        ]

    def factors(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Return all A and all B."""
        layers = self.layers.values()
        name = self.name
        return (
            [layer.lora_A._parameters[name] for layer in layers],  # type: ignore[misc]  # noqa: SLF001
            [layer.lora_B._parameters[name] for layer in layers],  # type: ignore[misc]  # noqa: SLF001
        )

    def allocate(self, step: int) -> AllocationReport:
        """Take one optimizer step into account."""
        if self.allocator is None and self.is_trainable:
            raise RuntimeError(
                f"update_and_allocate: total_step of the adapter {self.name!r} is {AUTO!r}, and "
                "nobody has bound it; AdaLoraCallback does, elsewhere call "
                "model.bind_total_step(optimizer_steps_of_the_run)"
            )
        if self.allocator is None:
            raise RuntimeError(
                f"update_and_allocate: the adapter {self.name!r} is frozen; load it "
                "with is_trainable=True to train it"
            )
        self._warn_without_gradient(self.allocator, step)
        self._warn_if_repeated(self.allocator, step)
        report = self.allocator.step(step)
        self._missed_steps = 0
        self._seen_version = self._version()
        return report

    def remove_dropped(self, kept: dict[str, list[bool]]) -> None:
        """Note that the triplets which `kept` drops were cut out of every module."""
        for path, flags in kept.items():
            rows = self.positions[path]
            self.positions[path] = [row for row, flag in zip(rows, flags, strict=True) if flag]
        if self.allocator is not None:
            self.allocator.keep_all()

    # --- rank patterns --------------------------------------------------------------------------

    def rank_pattern(self, *, live: bool = False) -> RankPattern | None:
        """Return the kept triplets of every matrix as lists of length `init_r`, or None.

        None stands for a run without an allocation so far, as in PEFT's files.

        Args:
            live: count a dropped triplet whose singular value has grown again since, so that the
                pattern describes what the model computes, not only what the allocator chose.
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
                nonzero = (whole(layer.lora_E[self.name].detach()) != 0).flatten().tolist()
                flags = [flag or value for flag, value in zip(flags, nonzero, strict=True)]
            full = [False] * self.spec.init_r
            for row, flag in zip(rows, flags, strict=True):
                full[row] = flag
            pattern[f"{path}{SINGULAR_VALUES_SUFFIX}"] = full
        return pattern

    def sync_pattern(self) -> None:
        """Write the kept set into `config.rank_pattern`, keyed as PEFT keys it in memory."""
        pattern = self.rank_pattern()
        if pattern is not None:
            self.config.rank_pattern = {f"{key}.{self.name}": kept for key, kept in pattern.items()}

    # --- forgotten, late and repeated calls -----------------------------------------------------

    def _warn_without_gradient(self, allocator: RankAllocator, step: int) -> None:
        """Warn before the first allocation if no gradient has been there at any step so far."""
        if self._gradient_was_seen or allocator.mask is not None:
            return
        self._gradient_was_seen = any(each.grad is not None for each in allocator.parameters())
        if not self._gradient_was_seen and allocator.schedule.at(step).allocates:
            warnings.warn(
                f"AdaLoRA: update_and_allocate has not found a gradient of the adapter "
                f"{self.name!r} at any step, so ranks are allocated by position. Call it after "
                "optimizer.step() and before optimizer.zero_grad(); what keeps gradients to "
                "itself (DeepSpeed) is not supported.",
                AllocationNotRunningWarning,
                stacklevel=6,
            )

    def _warn_if_repeated(self, allocator: RankAllocator, step: int) -> None:
        """Warn once if a step comes again, as from a loop that has a hook on its optimizer."""
        if step != allocator.last_step or self._has_warned_of_repetition:
            return
        self._has_warned_of_repetition = True
        warnings.warn(
            f"AdaLoRA: update_and_allocate got step {step} of the adapter {self.name!r} a second "
            "time, so its gradients count twice in the importance. Call it once per optimizer "
            "step; where allocate_on_step or AdaLoraCallback does, take it out of the loop.",
            RepeatedStepWarning,
            stacklevel=6,
        )

    def _version(self) -> int | None:
        layer = next(iter(self.layers.values()), None)
        return None if layer is None else int(layer.lora_B[self.name]._version)  # noqa: SLF001

    def warn_if_steps_are_missed(self) -> None:
        """Warn once if the optimizer moves the adapter and nobody calls `update_and_allocate`.

        Called in training forwards: an optimizer step between two of them changes B's version.
        """
        if self.allocator is None or self._missed_steps > MISSED_STEPS_BEFORE_WARNING:
            return
        version = self._version()
        if self._seen_version is not None and version != self._seen_version:
            self._missed_steps += 1
            if self._missed_steps > MISSED_STEPS_BEFORE_WARNING:
                warnings.warn(
                    f"AdaLoRA: the optimizer made {self._missed_steps} steps on the adapter "
                    f"{self.name!r} without model.update_and_allocate(step), so no rank is "
                    "allocated. Call it once per optimizer step, after optimizer.step() and before "
                    "optimizer.zero_grad().",
                    AllocationNotRunningWarning,
                    stacklevel=4,
                )
        self._seen_version = version
