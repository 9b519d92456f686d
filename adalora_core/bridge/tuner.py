"""Override PEFT's tuner, `AdaLoraModel`: allocation, penalty and pruned tensors."""

from __future__ import annotations

import contextlib
import inspect
import warnings
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from peft.tuners.adalora.layer import AdaLoraLayer
from peft.tuners.adalora.model import AdaLoraModel
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer, onload_layer
from torch import nn

from adalora_core.bridge import adapters
from adalora_core.bridge.layers import adalora_layers, injecting
from adalora_core.floor.rank_pattern import TENSOR_PREFIX, RankPattern, pattern_positions
from adalora_core.nn.adapter_layer import refuse_computed_weight
from adalora_core.nn.wrapping import leave_fast_path, loaded, return_to_fast_path
from adalora_core.ops._portable.svd_linear import without_autocast
from adalora_core.sharding import are_sharded
from adalora_core.training.compaction import cut_state
from adalora_core.training.host import Host, add_penalty, check_forward
from adalora_core.training.parallelism import refuse_merging
from adalora_core.training.run.reporting import refuse_adapted, refuse_adapter_names
from adalora_core.training.run_end import warn_if_dropped_are_live, warn_if_unfinished
from adalora_core.training.tuner import refuse_shared_modules

_peft_init: Any = AdaLoraModel.__init__
_peft_inject: Any = AdaLoraModel.inject_adapter
_peft_create: Any = AdaLoraModel._create_and_replace  # noqa: SLF001 - PEFT's own hook
_peft_hooks: Any = AdaLoraModel._enable_peft_forward_hooks  # noqa: SLF001 - PEFT's own hooks
_peft_merge: Any = AdaLoraModel.merge_adapter
_peft_unmerge: Any = AdaLoraModel.unmerge_adapter
_peft_unload: Any = AdaLoraModel._unload_and_optionally_merge  # noqa: SLF001 - same


_SIGNATURE = inspect.signature(_peft_init)

built: weakref.WeakSet[Any] = weakref.WeakSet()
"""Tuners that PEFT built after `install()`."""

replaced: dict[tuple[type, str], Any] = {}
"""What `install()` has replaced, by class and name."""

loading: ContextVar[str | None] = ContextVar("loading", default=None)
"""The adapter that `PeftModel.from_pretrained` loads now."""


class TunerOverrides(Host):
    """Methods of PEFT's `AdaLoraModel`, and further methods of this package's tuner."""

    @property
    def peft_config(self) -> dict[str, Any]:
        """The configurations, with updated rank patterns."""
        configs = adapters.configs_of(self)
        adapters.sync_patterns(self)
        return configs

    @peft_config.setter
    def peft_config(self, value: dict[str, Any]) -> None:
        self.__dict__["peft_config"] = self.__dict__[adapters.CONFIGS] = value

    @property
    def training_run(self) -> adapters.BridgedRun:  # type: ignore[override]
        """The state of the training."""
        return adapters.state_of(self)

    def inject_adapter(
        self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any
    ) -> None:
        """Inject as PEFT does, unless an expression of the configuration takes too long.

        With `init_lora_weights` "lora" the adapter starts like LoRA.
        """
        paths = [path for path, _ in model.named_modules() if path]
        config = adapters.configs_of(self)[adapter_name]
        adapters.refuse_slow_expressions(config, paths)
        with warnings.catch_warnings(), injecting(model, adapter_name, config):
            if any(isinstance(kept, list) for kept in (config.rank_pattern or {}).values()):
                # PEFT looks for modules of these names; a pattern of AdaLoRA names parameters.
                warnings.filterwarnings("ignore", "The following rank_pattern keys did not match")
            _peft_inject(self, model, adapter_name, *args, **kwargs)
        leave_fast_path(model, AdaLoraLayer)

    def _create_and_replace(
        self, config: Any, adapter_name: str, target: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Make a layer as PEFT does, which puts the factors where the weights are then."""
        with loaded(getattr(target, "base_layer", target)):
            _peft_create(self, config, adapter_name, target, *args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model; in training mode add the penalty to `outputs.loss`."""
        check_forward(self)
        return add_penalty(self, self.model.forward(*args, **kwargs), kwargs)

    def update_and_allocate(self, global_step: int) -> None:
        """Call the allocator of this package after the 0-based optimizer step `global_step`."""
        adapters.refuse_changed_allocator(self, "update_and_allocate")
        adapters.follow_reset(self, adapters.state_of(self).adapters.values())
        Host.update_and_allocate(self, global_step)

    trained_adapters = adapters.trained_adapters

    def bind_total_step(self, total_step: int) -> None:
        """Replace a `total_step` of "auto" in the configuration that is trained."""
        for adapter in adapters.trained_adapters(self):
            adapters.bind_total_step(self, adapter.name, total_step)

    @contextlib.contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Refuse `adapter_names`, which PEFT would pass on to layers that ignore it."""
        refuse_adapter_names(kwargs)
        with _peft_hooks(self, *args, **kwargs):
            yield

    def merge_adapter(self, *args: Any, **kwargs: Any) -> None:
        """Merge as PEFT does, in every layer or in none, without triplets dropped for good."""
        layers = dict(adalora_layers(self.model))
        refuse_merging(layers.items())
        refuse_shared_modules(self.model, [f"{path}.base_layer" for path in layers])
        for path, layer in layers.items():
            refuse_computed_weight(layer.get_base_layer(), path)
        for adapter in adapters.trained_adapters(self):
            adapter.drop_again()
        with _all_or_none(layers.values()), _full_precision(self):
            _peft_merge(self, *args, **kwargs)

    def unmerge_adapter(self) -> None:
        """Unmerge as PEFT does, also inside autocast."""
        with _full_precision(self):
            _peft_unmerge(self)

    def _unload_and_optionally_merge(
        self,
        merge: bool = True,
        safe_merge: bool = False,
        adapter_names: Sequence[str] | None = None,
        **options: Any,
    ) -> Any:
        """Merge in every layer or in none, and then unload as PEFT does."""
        if merge:
            for adapter in adapters.trained_adapters(self):
                warn_if_unfinished(adapter, "merged")
            self.merge_adapter(adapter_names, safe_merge)
        model = _peft_unload(self, merge=False, **options)
        return_to_fast_path(model)
        adapters.state_of(self).adapters.clear()  # they have no layers any more
        return model

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Let state dictionaries meanwhile hold what the model computes, for a file."""
        state = adapters.state_of(self)
        state.is_saving = True
        try:
            yield
        finally:
            state.is_saving = False

    # --- files: PEFT calls these between its tensors and its configuration ------------------------

    def resize_modules_by_rank_pattern(self, rank_pattern: RankPattern, adapter_name: str) -> None:
        """Resize the modules to the ranks of a file; dtype, device and parameter objects stay.

        A model that FSDP2 has divided keeps its triplets.
        """
        if not are_sharded(self.model.parameters()):
            positions = pattern_positions(rank_pattern, adapter_name)
            adapters.resize_adapter(self, adapter_name, positions)

    def resize_state_dict_by_rank_pattern(
        self, rank_pattern: RankPattern, state_dict: dict[str, torch.Tensor], adapter_name: str
    ) -> dict[str, torch.Tensor]:
        """Cut dropped triplets out of `state_dict`.

        A file also gets the pattern, and both describe what the model computes: a dropped triplet
        whose singular value is not zero any more is kept. A state dictionary that a script reads
        has the triplets of the configuration, as in PEFT, and changes nothing.
        """
        del rank_pattern  # PEFT has also cut the adapter's name out of module names
        adapter = adapters.adapter_of(self, adapter_name)
        is_file = adapters.state_of(self).is_saving
        # Modules with injected adapters have no prefix.
        prefix = TENSOR_PREFIX if all(key.startswith(TENSOR_PREFIX) for key in state_dict) else ""
        singular_values = {
            path: state_dict[f"{prefix}{path}.lora_E.{adapter_name}"] for path in adapter.layers
        }
        pattern = adapter.rank_pattern(live=is_file, singular_values=singular_values)
        if is_file:
            adapter.config.rank_pattern = pattern
            if adapter.allocator is not None and adapter.allocator.target_reached:
                warn_if_dropped_are_live(adapter, "saved", pattern)  # of an old `state_dict`
        else:
            adapter.sync_pattern()
        return cut_state(adapter, pattern, state_dict, prefix)


# Python's message for a call without a step names it.
TunerOverrides.update_and_allocate.__qualname__ = "AdaLoraModel.update_and_allocate"


class BuiltTunerOverrides(TunerOverrides):
    """Methods of the tuner after `install()`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = _SIGNATURE.bind(self, *args, **kwargs).arguments
        if not _may_add(given["model"], given["config"]):
            refuse_adapted(given["model"])
        if adapters.is_of_ms_swift(AdaLoraModel.forward):  # which was imported after `install()`
            replaced[AdaLoraModel, "forward"] = AdaLoraModel.forward
            AdaLoraModel.forward = TunerOverrides.forward  # type: ignore[assignment, method-assign]
        _peft_init(self, *args, **kwargs)
        built.add(self)
        if not kwargs.get("low_cpu_mem_usage"):  # else the factors have no device yet
            adapters.report_faults(self)


def _may_add(base: nn.Module, config: Any) -> bool:
    """Return whether PEFT puts an adapter beside, or in the place of, adapters of AdaLoRA."""
    configs = vars(base).get("peft_config") or {}
    # A dictionary comes from a `PeftModel`, one configuration from `inject_adapter_in_model`.
    expected = loading.get() in configs if isinstance(config, dict) else bool(configs)
    of_peft = (each for each in base.modules() if isinstance(each, BaseTunerLayer | BaseTuner))
    return expected and all(isinstance(each, AdaLoraLayer) for each in of_peft)


@contextlib.contextmanager
def _all_or_none(layers: Iterable[Any]) -> Iterator[None]:
    """Unmerge what the body has merged if it fails, also if it is interrupted."""
    before = [(layer, len(layer.merged_adapters)) for layer in layers]
    try:
        yield
    except BaseException:
        for layer, count in before:
            if len(layer.merged_adapters) > count:
                kept = layer.merged_adapters[:count]
                del layer.merged_adapters[:count]
                with onload_layer(layer):
                    layer.unmerge()
                layer.merged_adapters[:0] = kept
        raise


@contextlib.contextmanager
def _full_precision(tuner: Host) -> Iterator[None]:
    """Compute changes of weights in the dtype of the factors, also inside autocast."""
    with contextlib.ExitStack() as stack:
        for _, layer in adalora_layers(tuner.model):
            stack.enter_context(without_autocast(next(iter(layer.lora_A.values()))))
        yield
