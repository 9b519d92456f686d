"""Hold one adapter of a model: its configuration, layers and allocator."""

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

One step of LBFGS moves the parameters up to 25 times.
"""


class AllocationNotRunningWarning(UserWarning):
    """`update_and_allocate` is not called, or never finds a gradient."""


class RepeatedStepWarning(UserWarning):
    """`update_and_allocate` gets a step twice, so its gradients count twice."""


class Adapter:
    """One adapter: everything about it but its parameters, which are in the layers.

    Attributes:
        name: as in `lora_A.<name>`.
        config: the configuration; `sync_pattern` updates its `rank_pattern`.
        spec: the numbers of the configuration that compute needs.
        layers: adapted layers by path, in the model's order.
        positions: for each module, the original triplets (0 to `init_r - 1`) that its rows are.
            Shorter than `init_r` after triplets were cut out.
        allocator: None while the adapter is frozen, and until `total_step` is known.
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
        """Whether the adapter is made for training, by its `inference_mode`."""
        return not self.config.inference_mode

    def add_layer(self, path: str, layer: AdaLoraLayer, positions: list[int] | None = None) -> None:
        """Add `layer`, whose rows are the original triplets `positions`; None means all of them."""
        self.layers[path] = layer
        self.positions[path] = (
            list(range(layer.rank(self.name))) if positions is None else positions
        )

    def start_allocation(self) -> None:
        """Make the allocator, unless `total_step` is "auto": the schedule is not known yet.

        Raises:
            ValueError: `total_step` is not set.
        """
        if self.config.total_step == AUTO:
            return
        self.allocator = RankAllocator(self.spec, self.matrices())

    def bind_total_step(self, total_step: int) -> None:
        """Replace a `total_step` of "auto" and start the allocation; a number stays as it is.

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
        """Return the places of the factors of every matrix."""
        # nn.Module keeps these private dictionaries when parameters are replaced.
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
        """Return A of every layer, and B of every layer."""
        name = self.name
        return (
            [each.lora_A._parameters[name] for each in self.layers.values()],  # type: ignore[misc]  # noqa: SLF001
            [each.lora_B._parameters[name] for each in self.layers.values()],  # type: ignore[misc]  # noqa: SLF001
        )

    def allocate(self, step: int) -> AllocationReport:
        """Call the allocator after one optimizer step, and warn if the calls look wrong."""
        if self.allocator is None and self.is_trainable:
            raise RuntimeError(
                f"update_and_allocate: total_step of the adapter {self.name!r} is still {AUTO!r}; "
                "call model.bind_total_step(optimizer_steps_of_the_run) before training, or use "
                "AdaLoraCallback, which does so"
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
        """Update `positions` after the triplets that `kept` drops were cut out of every module."""
        for path, flags in kept.items():
            rows = self.positions[path]
            self.positions[path] = [row for row, flag in zip(rows, flags, strict=True) if flag]
        if self.allocator is not None:
            self.allocator.keep_all()

    # --- rank patterns --------------------------------------------------------------------------

    def rank_pattern(self, *, live: bool = False) -> RankPattern | None:
        """Return the kept triplets of every matrix as lists of length `init_r`, or None.

        None means that there was no allocation so far, as in PEFT's files.

        Args:
            live: include dropped triplets whose singular value is not zero any more, so that the
                pattern describes what the model computes and not what the allocator chose.
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

    def rows_in(self, pattern: RankPattern | None, path: str) -> list[int]:
        """Return the rows of the module `path` that `pattern` keeps; None keeps all of them."""
        places = self.positions[path]
        kept = None if pattern is None else pattern[f"{path}{SINGULAR_VALUES_SUFFIX}"]
        return [row for row, place in enumerate(places) if kept is None or kept[place]]

    def sync_pattern(self) -> None:
        """Write the kept set into `config.rank_pattern`, keyed as PEFT keys it in memory."""
        pattern = self.rank_pattern()
        if pattern is not None:
            self.config.rank_pattern = {f"{key}.{self.name}": kept for key, kept in pattern.items()}

    # --- forgotten, late and repeated calls -----------------------------------------------------

    def _warn_without_gradient(self, allocator: RankAllocator, step: int) -> None:
        """Warn at the first allocation if no step so far had a gradient."""
        if self._gradient_was_seen or allocator.mask is not None:
            return
        self._gradient_was_seen = any(each.grad is not None for each in allocator.parameters())
        if not self._gradient_was_seen and allocator.schedule.at(step).allocates:
            warnings.warn(
                f"AdaLoRA: update_and_allocate has not found a gradient of the adapter "
                f"{self.name!r} at any step, so ranks are allocated by position. Call it after "
                "optimizer.step() and before optimizer.zero_grad(); engines that hide gradients "
                "(DeepSpeed) are not supported.",
                AllocationNotRunningWarning,
                stacklevel=6,
            )

    def _warn_if_repeated(self, allocator: RankAllocator, step: int) -> None:
        """Warn once if a step is repeated, as when a loop and a hook on its optimizer both call."""
        if step != allocator.last_step or self._has_warned_of_repetition:
            return
        self._has_warned_of_repetition = True
        warnings.warn(
            f"AdaLoRA: update_and_allocate got step {step} of the adapter {self.name!r} a second "
            "time, so its gradients count twice in the importance. Call it once per optimizer "
            "step; if allocate_on_step or AdaLoraCallback calls it, take it out of the loop.",
            RepeatedStepWarning,
            stacklevel=6,
        )

    def _version(self) -> int | None:
        layer = next(iter(self.layers.values()), None)
        return None if layer is None else int(layer.lora_B[self.name]._version)  # noqa: SLF001

    def warn_if_steps_are_missed(self) -> None:
        """Warn once if the optimizer makes steps without `update_and_allocate`.

        Training forwards call this: an optimizer step between two of them changes B's version.
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
