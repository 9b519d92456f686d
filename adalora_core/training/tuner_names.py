"""Give tuner, model and allocator the names under which PEFT's show the same things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.adapter_spec import AdapterSpec
from adalora_core.budget import Phase
from adalora_core.contract.peft_type import PeftType
from adalora_core.nn import AdaLoraLayer
from adalora_core.nn.adapter_layer import FACTORS
from adalora_core.peft_names import ALLOCATOR, MODEL, not_available
from adalora_core.training import status
from adalora_core.training.compaction import cut_state, resize_to

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn

    from adalora_core.rank_pattern import RankPattern
    from adalora_core.training.adapter import Adapter
    from adalora_core.training.status import TunerLayerStatus, TunerModelStatus


class TunerNames:
    """Names of PEFT's models and tuners that are views of what an `AdaLoraTuner` holds."""

    model: nn.Module
    adapters: dict[str, Adapter]
    active_adapters: list[str]

    peft_type = PeftType.ADALORA
    prefix = "lora_"
    tuner_layer_cls = AdaLoraLayer

    @property
    def peft_config(self) -> dict[str, Any]:
        """The configuration of each adapter, with its rank pattern as it is now."""
        for adapter in self.adapters.values():
            adapter.sync_pattern()
        return {name: adapter.config for name, adapter in self.adapters.items()}

    @property
    def active_adapter(self) -> list[str]:
        """The adapters that act on the output; `AdaLoraModel.active_adapter` is the first."""
        return list(self.active_adapters)

    @property
    def has_active_enabled_adapter(self) -> bool:
        """Whether an adapter acts on the output."""
        return bool(self.active_adapters) and not self.adapters_disabled  # type: ignore[attr-defined]

    @property
    def base_model_torch_dtype(self) -> Any:
        """The dtype of the base model, None if it does not show one."""
        return getattr(self.model, "dtype", None)

    @property
    def targeted_module_names(self) -> list[str]:
        """Paths of the adapted modules, in the model's order."""
        paths = {path for adapter in self.adapters.values() for path in adapter.layers}
        return [path for path, _ in self.model.named_modules() if path in paths]

    @property
    def trainable_adapter_name(self) -> str:
        """The adapter that is made for training, an active one first; no attribute if none is."""
        return self._trainable_adapter("trainable_adapter_name").name

    @property
    def rankallocator(self) -> RankAllocatorView:
        """A view of the rank allocator of `trainable_adapter_name`; no attribute if none is."""
        return RankAllocatorView(self._trainable_adapter("rankallocator"))

    def _trainable_adapter(self, name: str) -> Adapter:
        for each in (*self.active_adapters, *self.adapters):
            if self.adapters[each].is_trainable:
                return self.adapters[each]
        raise AttributeError(name)

    @property
    def modules_to_save(self) -> set[str] | None:
        """Last parts of the paths of the modules that are trained in full; None without any."""
        names = {path.rpartition(".")[2] for path, _ in self.saved_modules()}  # type: ignore[attr-defined]
        return names or None

    def resize_modules_by_rank_pattern(self, rank_pattern: RankPattern, adapter_name: str) -> None:
        """Give the modules of an adapter the triplets that `rank_pattern` keeps.

        The allocation starts anew if a rank changes, and an optimizer with a state has to be made
        anew; `AdaLoraModel.compact` keeps both.
        """
        resize_to(self.adapters[adapter_name], rank_pattern)

    def resize_state_dict_by_rank_pattern(
        self,
        rank_pattern: RankPattern,
        state_dict: dict[str, torch.Tensor],
        adapter_name: str,
    ) -> dict[str, torch.Tensor]:
        """Cut the triplets of `state_dict` that the adapter has dropped, for PEFT's function."""
        del rank_pattern  # the configuration's, out of whose keys PEFT has cut the adapter's name
        adapter = self.adapters[adapter_name]
        adapter.sync_pattern()
        return cut_state(adapter, adapter.rank_pattern(), state_dict)

    def add_weighted_adapter(self, *_: Any, **__: Any) -> None:
        """Refuse, as PEFT does: a sum of AdaLoRA adapters is not an AdaLoRA adapter.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            "add_weighted_adapter: AdaLoRA adapters cannot be combined; export each with "
            "export_lora() and combine the LoRA adapters in PEFT"
        )

    def get_layer_status(self) -> list[TunerLayerStatus]:
        """Return the state of every adapted layer and of every module that is trained in full."""
        return status.get_layer_status(self)  # type: ignore[arg-type]  # the tuner is a module

    def get_model_status(self) -> TunerModelStatus:
        """Return the state of the adapters over the whole model."""
        return status.get_model_status(self)  # type: ignore[arg-type]


class _OfTuner:
    """An attribute of the model that is the tuner's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        """Return the tuner's attribute."""
        return self if model is None else getattr(model.base_model, self.name)


class ModelNames:
    """Names of the tuner, and names to refuse, that are names of PEFT's models too.

    The model forwards to the tuner what it does not define. Defining these keeps a second base
    class, as a trainer's integration may add, from answering in the tuner's place.
    """


for _name in (*vars(TunerNames), *MODEL, "set_requires_grad"):
    if not _name.startswith("_"):
        setattr(ModelNames, _name, _OfTuner(_name))


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
