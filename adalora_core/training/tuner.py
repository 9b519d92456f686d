"""The tuner: a base model whose target modules have adapters (`model.base_model`, as in PEFT)."""

from __future__ import annotations

import copy
import warnings
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from adalora_core.config.model import AdaLoraConfig
from adalora_core.config.rules.runs import SelectionMatchesNothing
from adalora_core.floor.errors import TargetError
from adalora_core.nn import AdaLoraLayer, ModulesToSave
from adalora_core.nn.adapter_layer import DEFAULT_ADAPTER, dense_weight
from adalora_core.nn.wrapping import leave_fast_path, refuse_offloaded, return_to_fast_path
from adalora_core.training import targets as selection
from adalora_core.training.adapter import Adapter
from adalora_core.training.host import Host, TrainingRun, add_penalty, check_forward
from adalora_core.training.parallelism import refuse_divided_base
from adalora_core.training.run.reporting import refuse_adapted, refuse_adapter_names


class AdaLoraTuner(Host):
    """The base model, its adapted layers and the adapter, under the name "default"."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        refuse_adapted(model)
        self.model = model
        self.adapters: dict[str, Adapter] = {}
        self.active_adapters: list[str] = []
        self.training_run = TrainingRun()
        self.register_load_state_dict_post_hook(_see_loaded)  # type: ignore[no-untyped-call]  # of torch

    def __getattr__(self, name: str) -> Any:
        """Forward what the tuner does not define to the base model."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model" or "model" not in self._modules:
                raise
            return getattr(self.model, name)

    @property
    def adapter(self) -> Adapter:
        """The adapter.

        Raises:
            ValueError: `unload` or `merge_and_unload` has taken it out.
        """
        if not self.adapters:
            raise ValueError("the model has no adapter any more: it was unloaded")
        return self.adapters[DEFAULT_ADAPTER]

    # --- injection ------------------------------------------------------------------------------

    def inject(
        self,
        config: AdaLoraConfig,
        *,
        autocast_adapter_dtype: bool = True,
        targets: selection.Targets | None = None,
        positions: dict[str, list[int]] | None = None,
        device: torch.device | None = None,
    ) -> Adapter:
        """Add the adapter to every module that `config` means.

        `targets` are the modules, which are looked for without it. `positions` are the rows of a
        pruned adapter by module path; None means every triplet.

        Raises:
            TargetError: a target cannot be adapted, or nothing matches; the model is unchanged.
            ValueError: a field of `config` is for models of PEFT alone.
        """
        selection.refuse_unsupported(config)
        refuse_divided_base(self.model)
        refuse_offloaded(self.model)
        paths = [path for path, _ in selection.candidates(self.model)]
        unmatched = selection.unmatched_entries(config, paths) if positions is None else []
        # All targets before any change: an unsupported target leaves the model as it is.
        targets = targets or selection.find_targets(self.model, config)
        refuse_shared_modules(self.model, [*targets.layers, *targets.saved])
        adapter = Adapter.keeping(DEFAULT_ADAPTER, config)
        adapter.run.automatic.host = weakref.ref(self)
        if positions is None:
            # A result of earlier training; this adapter begins with every triplet.
            config.rank_pattern = None
        # PEFT reads the layout of the layers from this field of the file.
        config.fan_in_fan_out = any(layer.transposed_weight for layer in targets.layers.values())
        if unmatched:
            adapter.run.report(SelectionMatchesNothing, "; ".join(unmatched))
        for path, layer in targets.layers.items():
            rows = None if positions is None else positions[path]
            layer.add_adapter(
                adapter.spec,
                rank=None if rows is None else len(rows),
                dtype=None if autocast_adapter_dtype else layer.base_device_and_dtype()[1],
                device=device,
            )
            self._replace(path, layer)
            adapter.layers[path] = layer
            adapter.positions[path] = list(range(layer.rank)) if rows is None else rows
        for path in targets.saved:
            self._replace(path, ModulesToSave(self.model.get_submodule(path)))
        leave_fast_path(self.model, AdaLoraLayer)
        self.adapters[DEFAULT_ADAPTER], self.active_adapters = adapter, [DEFAULT_ADAPTER]
        self.model.requires_grad_(False)
        if adapter.is_trainable:
            for parameter in self.trained_parameters():
                parameter.requires_grad_(True)
        return adapter

    def _replace(self, path: str, module: nn.Module) -> None:
        parent, _, child = path.rpartition(".")
        owner = self.model.get_submodule(parent)
        module.train(getattr(owner, child).training)
        setattr(owner, child, module)

    def saved_modules(self) -> Iterator[tuple[str, ModulesToSave]]:
        """Yield path and wrapper of every module that is trained in full."""
        for path, module in self.model.named_modules():
            if isinstance(module, ModulesToSave):
                yield path, module

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the factors, the copies of modules trained in full, and the biases."""
        yield from self.adapter.parameters()
        for _, module in self.saved_modules():
            yield from module.trained.parameters()
        for name, parameter in self.bias_parameters():
            # The original of a module trained in full stays frozen: its copy learns.
            if ".original_module." not in f".{name}":
                yield parameter

    def bias_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Return the biases that the configuration asks for: all, of adapted layers, or none."""
        mode, found = self.adapter.config.bias, []
        for name, parameter in self.model.named_parameters() if mode != "none" else ():
            owner, _, leaf = name.rpartition(".")
            if leaf != "bias" or ".modules_to_save." in f".{owner}.":
                continue
            if mode == "all" or owner.rpartition(".")[2] == "base_layer":
                found.append((name, parameter))
        return found

    def disable(self, value: bool) -> None:
        """Set whether the adapter does not act on the output, in all layers and copies."""
        for module in self.model.modules():
            if isinstance(module, (AdaLoraLayer, ModulesToSave)):
                module.is_disabled = value

    # --- calling and unloading ------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model; in training mode add the orthogonality penalty to `outputs.loss`."""
        refuse_adapter_names(kwargs)
        check_forward(self)
        return add_penalty(self, self.model(*args, **kwargs), kwargs)

    def unload(self) -> nn.Module:
        """Return the base model without any adapter layer."""
        for path, module in list(self.model.named_modules()):
            if isinstance(module, AdaLoraLayer):
                self._replace(path, module.base_layer)
            elif isinstance(module, ModulesToSave):
                self._replace(path, module.current)
        return_to_fast_path(self.model)
        self.adapters, self.active_adapters = {}, []
        record_untied(self.model)
        return self.model

    @property
    def peft_config(self) -> dict[str, Any]:
        """The configuration by the adapter's name, with its rank pattern as it is now."""
        for adapter in self.adapters.values():
            adapter.sync_pattern()
        return {name: adapter.config for name, adapter in self.adapters.items()}


def _see_loaded(tuner: AdaLoraTuner, keys: Any) -> None:
    for adapter in tuner.adapters.values():
        adapter.see_loaded(keys.missing_keys, keys.unexpected_keys)


@torch.no_grad()
def merge(model: nn.Module, layers: Mapping[str, AdaLoraLayer], *, safe: bool) -> None:
    """Add ΔW of every layer to its base weight, in all of them or in none.

    A weight that other modules of `model` have too becomes a copy in the layer.

    Raises:
        ValueError: `safe`, and a merged weight has entries that are not finite.
        TypeError: a base layer has no dense weight to merge into.
    """
    weights = {path: dense_weight(layer.base_layer, path) for path, layer in layers.items()}
    uses = _uses(model, "_parameters")
    merged: list[str] = []
    try:
        for path, layer in layers.items():
            weight = weights[path]
            delta = layer.delta_weight().to(weight.dtype)
            if safe:
                _refuse_not_finite(weight + delta, path)
            if uses[id(weight)] > 1:
                layer.base_layer.weight = copy.deepcopy(weight)
            layer.base_layer.weight.data += delta  # type: ignore[operator] # of a tensor
            merged.append(path)
    except BaseException:
        for path in merged:
            base: Any = layers[path].base_layer
            if base.weight is weights[path]:
                base.weight.data -= layers[path].delta_weight().to(base.weight.dtype)
            base.weight = weights[path]
        raise


def _refuse_not_finite(merged: torch.Tensor, path: str) -> None:
    if not merged.isfinite().all():
        raise ValueError(
            f"merge: NaNs detected in the merged weight of {path}: the adapter is broken; nothing "
            "was merged"
        )


def _uses(model: nn.Module, kind: str) -> Counter[int]:
    """Count under how many names each parameter, or each module, is in `model`."""
    # named_parameters and named_children merge them.
    return Counter(id(each) for module in model.modules() for each in vars(module)[kind].values())


def refuse_shared_modules(model: nn.Module, paths: Iterable[str]) -> None:
    """Refuse to adapt a module of `paths` under one of its names, or to merge into it."""
    uses = _uses(model, "_modules")
    for path in paths:
        shared = model.get_submodule(path)
        if uses[id(shared)] > 1:
            every = model.named_modules(remove_duplicate=False)
            names = [repr(name) for name, each in every if each is shared]
            raise TargetError(
                f"target_modules, modules_to_save: {' and '.join(names)} are one module, and would "
                "be trained or merged under one of these names only; give each name a module of "
                "its own, or leave them out"
            )


def record_untied(model: nn.Module) -> None:
    """Set `tie_word_embeddings` to False where the embeddings of `model` differ now.

    With True, transformers would load the saved model with one weight for both.
    """
    config: Any = getattr(model, "config", None)
    if not getattr(config, "tie_word_embeddings", False):
        return
    ends = [getattr(model, f"get_{end}_embeddings")() for end in ("input", "output")]
    if None in ends or ends[0].weight is ends[1].weight:
        return
    config.tie_word_embeddings = False
    differ = "unload: input and output embeddings differ now"
    warnings.warn(f"{differ}, so config.tie_word_embeddings is False", stacklevel=4)
