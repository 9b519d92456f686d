"""The tuner: a base model whose target modules have adapters (`model.base_model`, as in PEFT)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adalora_core.config.rules.runs import SelectionMatchesNothing
from adalora_core.floor.peft_identity import SeenAsPeft
from adalora_core.nn import AdaLoraLayer, ModulesToSave, TokenRows
from adalora_core.nn.adapter_layer import dense_weight, training_dtype
from adalora_core.nn.encoder_fast_path import leave_fast_path, return_to_fast_path
from adalora_core.nn.offloading import refuse_offloaded
from adalora_core.training.adapter import Adapter
from adalora_core.training.compaction import cut_state, resize_to
from adalora_core.training.host import Host, TrainingRun, add_penalty, check_forward, forwards_of
from adalora_core.training.merging import (
    all_or_none,
    record_untied,
    refuse_shared_modules,
    separate,
    share_again,
)
from adalora_core.training.parallelism import (
    refuse_beside_tensor_parallelism,
    refuse_divided_base,
    refuse_merging,
)
from adalora_core.training.run.reporting import refuse_adapted, refuse_adapter_names
from adalora_core.training.run_end import judge_end
from adalora_core.training.targets import (
    Rows,
    Targets,
    candidates,
    find_targets,
    refuse_unsupported,
    unmatched_entries,
)

if TYPE_CHECKING:
    from adalora_core.config.model import AdaLoraConfig
    from adalora_core.floor.rank_pattern import RankPattern


class AdaLoraTuner(SeenAsPeft, Host, nn.Module):
    """The base model, its adapted layers and the adapters.

    `untied` are the weights of merged layers that other modules have too; the layers have copies.
    """

    seen_as = ("peft.tuners.tuners_utils", "BaseTuner")
    prefix = "lora_"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        refuse_adapted(model)
        self.model = model
        self.adapters: dict[str, Adapter] = {}
        self.active_adapters: list[str] = []
        self.training_run = TrainingRun()
        self.untied: dict[AdaLoraLayer, nn.Parameter] = {}

    def __getattr__(self, name: str) -> Any:
        """Forward what the tuner does not define to the base model."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model" or "model" not in self._modules:
                raise
            return getattr(self.model, name)

    # --- injection ------------------------------------------------------------------------------

    def inject(
        self,
        name: str,
        config: AdaLoraConfig,
        *,
        autocast_adapter_dtype: bool = True,
        targets: Targets | None = None,
        positions: dict[str, list[int]] | None = None,
        device: torch.device | None = None,
    ) -> Adapter:
        """Add the adapter `name` to every module that `config` means.

        The name is part of parameter names and the name of a folder, hence without dots and
        slashes. `targets` are the modules, which are looked for without it. `positions` are the
        rows of a pruned adapter by module path; None means every triplet.

        Raises:
            TargetError: a target cannot be adapted, or nothing matches; the model is unchanged.
            ValueError: the name is taken or not usable.
        """
        if name in self.adapters:
            raise ValueError(f"adapter_name: {name!r} exists already; delete it or choose another")
        is_plain = name.isprintable() and PureWindowsPath(name).name == name and "." not in name
        if not name or not is_plain:
            raise ValueError(
                f"adapter_name: expected a name without dots and slashes, got {name!r}"
            )
        if hasattr(nn.ParameterDict(), name):
            raise ValueError(f"adapter_name: {name!r} is the name of an attribute; choose another")
        refuse_unsupported(config)
        refuse_divided_base(self.model)
        unmatched = []
        if positions is None:
            unmatched = unmatched_entries(config, [path for path, _ in candidates(self.model)])
        # All targets before any change: an unsupported target leaves the model as it is.
        targets = targets or find_targets(self.model, config)
        trained = [*targets.saved, *targets.rows]
        refuse_beside_tensor_parallelism(self.model, config, trained)
        refuse_shared_modules(self.model, [*targets.layers, *trained])
        refuse_offloaded(self.model, targets.layers, trained, config.bias)
        adapter = Adapter.keeping(name, config)
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
                name,
                adapter.spec,
                rank=None if rows is None else len(rows),
                dtype=None if autocast_adapter_dtype else layer.base_dtype,
                device=device,
            )
            self._replace(path, layer)
            adapter.add_layer(path, layer, rows)
        for path in trained:
            trained_rows = targets.rows.get(path)
            self._save_module(path, name, trained_rows, autocast=autocast_adapter_dtype)
        leave_fast_path(self.model, AdaLoraLayer)
        self.adapters[name] = adapter
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self.set_adapter(self.active_adapters)  # which learn
        return adapter

    def _replace(self, path: str, module: nn.Module) -> None:
        parent, _, child = path.rpartition(".")
        owner = self.model.get_submodule(parent)
        if getattr(owner, child) is not module:
            module.train(getattr(owner, child).training)
            setattr(owner, child, module)

    def _save_module(self, path: str, name: str, rows: Rows | None, *, autocast: bool) -> None:
        module: Any = self.model.get_submodule(path)
        if not isinstance(module, ModulesToSave):
            module = ModulesToSave(module)
            self._replace(path, module)
        if rows is None:
            module.add_adapter(name)
            return
        dtype = module.original_module.weight.dtype
        dtype = training_dtype(dtype) if autocast else dtype
        source: Any = self.model.get_submodule(rows.source) if rows.source else None
        source = source and source.modules_to_save[name]
        module.add_adapter(name, TokenRows(module, rows.tokens, dtype, source))

    def layers(self) -> Iterator[AdaLoraLayer]:
        """Yield every adapted layer."""
        return (each for each in self.model.modules() if isinstance(each, AdaLoraLayer))

    def saved_modules(self) -> Iterator[tuple[str, ModulesToSave]]:
        """Yield path and wrapper of every module that is trained in full."""
        for path, module in self.model.named_modules():
            if isinstance(module, ModulesToSave):
                yield path, module

    # --- switching ------------------------------------------------------------------------------

    def set_adapter(self, adapter_name: str | Sequence[str], inference_mode: bool = False) -> None:
        """Make these the adapters that act on the output; trainable ones start to learn."""
        names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        for name in names:
            if name not in self.adapters:
                raise ValueError(
                    f"adapter_name: no adapter {name!r}; there are {list(self.adapters)}"
                )
        self.active_adapters = names
        for layer in self.layers():
            layer.active_adapters = [name for name in names if layer.has_adapter(name)]
        for _, module in self.saved_modules():
            module.active_adapter = next(
                (name for name in reversed(names) if name in module.modules_to_save), None
            )
        for name, adapter in self.adapters.items():
            learns = name in names and adapter.is_trainable and not inference_mode
            for parameter in self.adapter_parameters(name):
                parameter.requires_grad_(learns)
        self._set_bias_training(names, inference_mode=inference_mode)

    def adapter_parameters(self, name: str) -> Iterator[nn.Parameter]:
        """Yield the factors of the adapter `name` and its copies of modules trained in full."""
        yield from self.adapters[name].parameters()
        for _, module in self.saved_modules():
            if name in module.modules_to_save:
                yield from module.modules_to_save[name].parameters()

    def _set_bias_training(self, names: Sequence[str], *, inference_mode: bool) -> None:
        learning = [self.adapters[name] for name in names if self.adapters[name].is_trainable]
        modes = set() if inference_mode else {adapter.config.bias for adapter in learning}
        for name, parameter in self.bias_parameters("all" if "all" in modes else "lora_only"):
            # The original of a module trained in full stays frozen: its copies learn.
            if ".original_module." not in f".{name}":
                parameter.requires_grad_(bool(modes & {"all", "lora_only"}))

    def bias_parameters(self, mode: str) -> list[tuple[str, nn.Parameter]]:
        """Return the biases of every base module ("all") or of adapted ones ("lora_only")."""
        found = []
        for name, parameter in self.model.named_parameters():
            owner, _, leaf = name.rpartition(".")
            if leaf != "bias" or ".modules_to_save." in f".{owner}.":
                continue
            if mode == "all" or owner.rpartition(".")[2] == "base_layer":
                found.append((name, parameter))
        return found

    @property
    def adapters_disabled(self) -> bool:
        """Whether no adapter acts on the output."""
        return any(layer.adapters_disabled for layer in self.layers())

    def disable_adapter_layers(self) -> None:
        """Let no adapter act on the output before `enable_adapter_layers`."""
        self.enable_adapter_layers(enabled=False)

    def enable_adapter_layers(self, *, enabled: bool = True) -> None:
        """Let the active adapters act on the output again."""
        for layer in self.layers():
            layer.enable_adapters(enabled)
        for _, module in self.saved_modules():
            module.adapters_disabled = not enabled

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter from every layer."""
        name = adapter_name
        if name not in self.adapters:
            raise ValueError(f"adapter_name: Adapter {name!r} does not exist")
        for layer in self.adapters[name].layers.values():
            layer.delete_adapter(name)
        for _, module in self.saved_modules():
            module.delete_adapter(name)
        del self.adapters[name]
        self.set_adapter([each for each in self.active_adapters if each != name])

    # --- training -------------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the base model; in training mode add the orthogonality penalty to `outputs.loss`."""
        refuse_adapter_names(kwargs)
        if self.training:
            check_forward(self)
        return add_penalty(self, self.model(*args, **kwargs), kwargs)

    # --- merging --------------------------------------------------------------------------------

    def merge_adapter(
        self, adapter_names: Sequence[str] | None = None, safe_merge: bool = False
    ) -> None:
        """Add ΔW of the adapters to the base weights; a failure leaves every layer unchanged."""
        named = self.model.named_modules()
        layers = {path: each for path, each in named if isinstance(each, AdaLoraLayer)}
        refuse_merging(layers.items())
        for path, layer in layers.items():
            if layer.names_to_merge(adapter_names):
                dense_weight(layer.base_layer, path)
        for adapter in self.trained_adapters():
            adapter.drop_again()
        try:
            with all_or_none(layers.values(), lambda layer, keep: layer.unmerge(keep=keep)):
                separate(self.model, layers.values(), self.untied)
                for layer in layers.values():
                    layer.merge(safe_merge=safe_merge, adapter_names=adapter_names)
        finally:
            share_again(self.untied)

    def unmerge_adapter(self) -> None:
        """Subtract every merged ΔW from the base weights."""
        for layer in self.layers():
            layer.unmerge()
        share_again(self.untied)

    def merge_and_unload(
        self,
        progressbar: bool = False,  # noqa: ARG002 - PEFT's signature; merging is fast
        safe_merge: bool = False,
        adapter_names: Sequence[str] | None = None,
    ) -> nn.Module:
        """Merge the (active) adapters and return the base model without any adapter layer."""
        for adapter in self.trained_adapters():
            judge_end(adapter, "merged", forwards_of(self, adapter))
        self.merge_adapter(adapter_names, safe_merge)
        return self._without_layers(merge=True)

    def unload(self) -> nn.Module:
        """Return the base model without any adapter layer and with its original weights."""
        self.unmerge_adapter()
        return self._without_layers(merge=False)

    def _without_layers(self, *, merge: bool) -> nn.Module:
        for path, module in list(self.model.named_modules()):
            if isinstance(module, AdaLoraLayer):
                self._replace(path, module.base_layer)
            elif isinstance(module, ModulesToSave):
                self._replace(path, module.unloaded(merge=merge))
        return_to_fast_path(self.model)
        self.adapters.clear()
        self.active_adapters = []
        self.untied.clear()
        record_untied(self.model)
        return self.model

    # --- names that PEFT's functions and trainers read --------------------------------------------

    @property
    def peft_config(self) -> dict[str, Any]:
        """The configuration of each adapter, with its rank pattern as it is now."""
        for adapter in self.adapters.values():
            adapter.sync_pattern()
        return {name: adapter.config for name, adapter in self.adapters.items()}

    @property
    def trainable_adapter_name(self) -> str:
        """The adapter that is made for training, an active one first; no attribute if none is."""
        for each in (*self.active_adapters, *self.adapters):
            if self.adapters[each].is_trainable:
                return each
        raise AttributeError("trainable_adapter_name")

    def resize_modules_by_rank_pattern(self, rank_pattern: RankPattern, adapter_name: str) -> None:
        """Give the modules of an adapter the triplets that `rank_pattern` keeps.

        The allocation starts anew if a rank changes, and an optimizer with a state has to be made
        anew; `AdaLoraModel.compact` keeps both.
        """
        resize_to(self.adapters[adapter_name], rank_pattern)

    def resize_state_dict_by_rank_pattern(
        self, rank_pattern: RankPattern, state_dict: dict[str, torch.Tensor], adapter_name: str
    ) -> dict[str, torch.Tensor]:
        """Cut the triplets of `state_dict` that the adapter has dropped, for PEFT's function."""
        del rank_pattern  # the configuration's, out of whose keys PEFT has cut the adapter's name
        adapter = self.adapters[adapter_name]
        adapter.sync_pattern()
        return cut_state(adapter, adapter.rank_pattern(), state_dict)
