"""Show the rank allocator of an adapter under the names of PEFT's `RankAllocator`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.adapter_spec import AdapterSpec
from adalora_core.budget import Phase
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.peft_names import ALLOCATOR, not_available

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from adalora_core.training.adapter import Adapter


class RankAllocatorView:
    """What PEFT's `RankAllocator` shows, read from an adapter; only `set_total_step` changes it.

    Attributes:
        adapter_name: name of the adapter.
        peft_config: its configuration.
    """

    __slots__ = ("_adapter", "adapter_name", "peft_config")

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self.adapter_name = adapter.name
        self.peft_config = adapter.config

    def __getattr__(self, name: str) -> Any:
        """Refuse the methods of PEFT's allocator that would change the model."""
        if name in ALLOCATOR:
            raise not_available(self, name, ALLOCATOR)
        raise AttributeError(f"rankallocator has no attribute {name!r}", name=name, obj=self)

    # --- the schedule ---------------------------------------------------------------------------

    @property
    def beta1(self) -> float:
        """Weight of the past in the smoothed sensitivity."""
        return self._adapter.spec.beta1

    @property
    def beta2(self) -> float:
        """Weight of the past in the uncertainty."""
        return self._adapter.spec.beta2

    @property
    def name_set(self) -> list[str]:
        """Names of the factors of each matrix, with `%s` for the factor."""
        return sorted(f"{path}.%s.{self.adapter_name}" for path in self._adapter.layers)

    @property
    def init_bgt(self) -> int:
        """Triplets over all matrices at the start."""
        return self._adapter.spec.init_r * len(self._adapter.layers)

    @property
    def target_bgt(self) -> int:
        """Triplets over all matrices at the end."""
        return self._adapter.spec.target_r * len(self._adapter.layers)

    def set_total_step(self, total_step: int) -> None:
        """Set the length of the run; possible before its first step."""
        self.peft_config.total_step = total_step

    def budget_schedule(self, step: int) -> tuple[int, bool]:
        """Return the budget at the 0-based `step`, and whether PEFT's schedule allocates there.

        Raises:
            ValueError: `total_step` is not known yet.
        """
        schedule = AdapterSpec.of(self.peft_config).schedule()
        now = schedule.for_matrices(len(self._adapter.layers)).at(step)
        if now.phase is Phase.FINAL:
            # PEFT forces the selection at the first final step and has its flag from the next on.
            return now.budget, step > schedule.final_start or step % schedule.deltaT == 0
        return now.budget, now.allocates

    # --- the averages ---------------------------------------------------------------------------

    @property
    def ipt(self) -> dict[str, torch.Tensor]:
        """|p·g| of each factor at the last step, until the final phase.

        Recorded from the first read on: before that it is computed from the gradients there are.
        """
        if self._adapter.sensitivities is None:
            self._adapter.record_sensitivities()
        return self._named(self._adapter.sensitivities or [])

    @property
    def exp_avg_ipt(self) -> dict[str, torch.Tensor]:
        """The smoothed sensitivity of each factor; empty before training and when it is final."""
        allocator = self._adapter.allocator
        return {} if allocator is None else self._named(allocator.statistics.smoothed)

    @property
    def exp_avg_unc(self) -> dict[str, torch.Tensor]:
        """The uncertainty of each factor, like `exp_avg_ipt`."""
        allocator = self._adapter.allocator
        return {} if allocator is None else self._named(allocator.statistics.uncertainty)

    def reset_ipt(self) -> None:
        """Forget the averages; they begin anew at the next step."""
        self._adapter.sensitivities = None
        if self._adapter.allocator is not None:
            self._adapter.allocator.statistics.release()

    def _named(self, tensors: Sequence[torch.Tensor | None]) -> dict[str, torch.Tensor]:
        names = [
            f"{path}.{factor}.{self.adapter_name}"
            for path in self._adapter.layers
            for factor in FACTORS
        ]
        # Nothing is kept in the final phase.
        return {
            name: each
            for name, each in zip(names, tensors, strict=bool(tensors))
            if each is not None
        }
