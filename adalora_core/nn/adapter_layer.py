"""The base class of adapted layers: factors of each adapter, switching and merging.

Parameters are `lora_A.<adapter>` [r, in], `lora_E.<adapter>` [r, 1] and `lora_B.<adapter>`
[out, r], the names that PEFT writes to disk.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from adalora_core.floor.adapter_spec import AdapterSpec, scale_of
from adalora_core.floor.errors import TargetError
from adalora_core.floor.peft_identity import SeenAsPeft
from adalora_core.nn.initial_factors import initial_factors, rounding_dtype
from adalora_core.nn.offloading import execution_device, loaded, offloading_hook, set_weight
from adalora_core.ops._portable.svd_linear import without_autocast
from adalora_core.sharding.layout import are_sharded

MOST_TRIPLETS = 1 << 20
"""Limit on the rank of one matrix, whose rows are listed one by one."""
TRIPLET_AXES = {"lora_A": 0, "lora_E": 0, "lora_B": 1}
"""The axis of each factor that counts triplets."""

FACTORS = tuple(TRIPLET_AXES)


class Product(NamedTuple):
    """The operands of what one adapter adds, `scale · ((drop(x) Aᵀ) ⊙ Eᵀ) Bᵀ`."""

    A: torch.Tensor
    E: torch.Tensor
    B: torch.Tensor
    scale: float
    dropout: float


class AdaLoraLayer(SeenAsPeft, nn.Module):
    """A `base_layer` and its adapters; a subclass defines how an adapter acts on the output.

    Attributes:
        base_layer: the layer that was adapted; frozen once there is an adapter.
        lora_A, lora_E, lora_B: the factors, `{adapter: Parameter}`.
        lora_dropout: what is applied to the input, `{adapter: Dropout or Identity}`.
        scaling: numerator of the scale, `{adapter: number}`, `lora_alpha` at the start.
        initial_rank: divisor of the scale, `{adapter: init_r}`; pruning does not change it.
        merged_adapters: adapters whose ΔW is part of `base_layer.weight` now.
        transposed_weight: whether the base weight is `[in, out]`, PEFT's `fan_in_fan_out`.
    """

    in_features: int
    out_features: int
    transposed_weight = False

    seen_as = ("peft.tuners.lora", "LoraLayer")
    adapter_layer_names = ("lora_A", "lora_B", "lora_E")
    other_param_names = ("r", "lora_alpha", "scaling", "lora_dropout")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.ParameterDict()
        self.lora_E = nn.ParameterDict()
        self.lora_B = nn.ParameterDict()
        self.lora_dropout = nn.ModuleDict()
        self.lora_alpha: dict[str, float] = {}
        self.scaling: dict[str, float] = {}
        self.initial_rank: dict[str, int] = {}
        self.active_adapters: Sequence[str] = []
        self.merged_adapters: list[str] = []
        self.adapters_disabled = False

    def __getattr__(self, name: str) -> Any:
        """Return a submodule or parameter."""
        # Not through nn.Module: every forward looks up the base layer and the factors here.
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        return super().__getattr__(name)

    # --- adapters -------------------------------------------------------------------------------

    @property
    def factor_shapes(self) -> tuple[int, int]:
        """`(columns of A, rows of B)`."""
        return self.in_features, self.out_features

    def lora_kernel(self, path: str) -> tuple[int, ...]:
        """Return the trailing dimensions of the `lora_A` of this layer's LoRA; none if it is 2-D.

        Each layer type that can be written as LoRA defines it.
        """
        raise TargetError(
            f"export_lora: {path!r} is a layer of type {type(self).__name__}, which "
            "cannot be written as LoRA; merge the adapter, or name the module in exclude_modules"
        )

    @property
    def base_dtype(self) -> torch.dtype:
        """Dtype of the base layer's first floating-point tensor; torch's default if it has none."""
        return self._base_device_and_dtype()[1]

    @property
    def base_device(self) -> torch.device | None:
        """Where the base layer is, or where it computes if accelerate has offloaded it."""
        return self._base_device_and_dtype()[0]

    @property
    def weight(self) -> torch.Tensor:
        """The base layer's weight; some models read it."""
        return self.base_layer.weight  # type: ignore[return-value]  # models mean a tensor

    @property
    def bias(self) -> torch.Tensor | None:
        """The base layer's bias; some models read it."""
        return self.base_layer.bias  # type: ignore[return-value]  # same

    def add_adapter(
        self,
        name: str,
        spec: AdapterSpec,
        *,
        rank: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Create the factors of the adapter `name`, and freeze the base layer.

        An adapter of this name is replaced. `spec.init_lora_weights` is the start, see
        `initial_factors`. `rank` is `spec.init_r` unless a pruned adapter is being loaded. Without
        `dtype` the factors have `training_dtype` of the base layer.

        Raises:
            ValueError: the rank is above `MOST_TRIPLETS`.
        """
        rank = spec.init_r if rank is None else rank
        if rank > MOST_TRIPLETS:
            raise ValueError(
                f"init_r {rank} is above the limit of {MOST_TRIPLETS} triplets of one matrix; a "
                "rank above both sizes of the matrix adds nothing"
            )
        self.base_layer.requires_grad_(False)
        place, base_dtype = self._base_device_and_dtype()
        dtype = dtype or training_dtype(base_dtype)
        columns, rows = self.factor_shapes
        shapes = {"lora_A": (rank, columns), "lora_E": (rank, 1), "lora_B": (rows, rank)}
        for factor, values in initial_factors(shapes, spec, device).items():
            # Rounded to the base's dtype first, as PEFT does.
            placed = values.to(device or place, rounding_dtype(self.base_layer)).to(dtype)
            getattr(self, factor)[name] = nn.Parameter(placed)
        dropout = nn.Dropout(spec.lora_dropout) if spec.lora_dropout > 0 else nn.Identity()
        self.lora_dropout[name] = dropout.train(self.training)
        self.lora_alpha[name] = self.scaling[name] = spec.lora_alpha
        self.initial_rank[name] = spec.init_r

    def delete_adapter(self, name: str) -> None:
        """Remove the adapter `name`, after unmerging it."""
        if name in self.merged_adapters:
            self.unmerge()
        if not self.has_adapter(name):
            return
        for store in (*FACTORS, "lora_dropout", "lora_alpha", "scaling", "initial_rank"):
            del getattr(self, store)[name]
        self.active_adapters = [each for each in self.active_adapters if each != name]

    def _get_available_adapters(self) -> set[str]:
        # The name under which PEFT's functions ask its layers.
        return set(self.lora_A)

    def has_adapter(self, name: str) -> bool:
        """Return whether this layer carries the adapter `name`."""
        return name in self.lora_A

    def rank(self, name: str) -> int:
        """Return how many triplets the adapter `name` holds, dropped ones included."""
        return int(self.lora_E[name].shape[0])

    def set_factors(self, name: str, **factors: torch.Tensor) -> None:
        """Replace the values of `lora_A`, `lora_E` and `lora_B`, shapes included.

        Where shape, dtype or device change, the parameter becomes a new object, and an optimizer
        still holds the old one.
        """
        for factor, values in factors.items():
            old = getattr(self, factor)[name]
            if (old.shape, old.dtype, old.device) == (values.shape, values.dtype, values.device):
                with torch.no_grad():
                    old.copy_(values)
                continue
            getattr(self, factor)[name] = nn.Parameter(values, requires_grad=old.requires_grad)

    def _base_device_and_dtype(self) -> tuple[torch.device | None, torch.dtype]:
        place = execution_device(self.base_layer)
        for tensor in (*self.base_layer.parameters(), *self.base_layer.buffers()):
            if tensor.dtype.is_floating_point:
                return place or tensor.device, tensor.dtype
        first = next(iter((*self.base_layer.parameters(), *self.base_layer.buffers())), None)
        return place or (None if first is None else first.device), torch.get_default_dtype()

    # --- merging --------------------------------------------------------------------------------

    def delta_weight(self, name: str) -> torch.Tensor:
        """Return `scale · B diag(E) A` in the layout of the base weight, in the dtype of A."""
        with without_autocast(self.lora_A[name]):
            product: torch.Tensor = self.lora_B[name] @ (self.lora_A[name] * self.lora_E[name])
        return product * self.scale[name]

    def names_to_merge(self, adapter_names: Sequence[str] | None = None) -> list[str]:
        """Return which of `adapter_names`, or of the active adapters, this layer has unmerged."""
        names = self.active_adapters if adapter_names is None else adapter_names
        return [
            each for each in names if self.has_adapter(each) and each not in self.merged_adapters
        ]

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: Sequence[str] | None = None) -> None:
        """Add ΔW of the adapters, by default the active ones, to the base weight, in place.

        Raises:
            ValueError: `safe_merge` found entries that are not finite; the weight is unchanged.
            TypeError: the base layer has no dense weight to merge into.
        """
        names = self.active_adapters if adapter_names is None else adapter_names
        for name in names:
            if name in self.merged_adapters:
                warnings.warn(f"Adapter {name!r} is already merged; skipped.", stacklevel=2)
        for name in self.names_to_merge(names):
            with loaded(self.base_layer):
                weight = dense_weight(self.base_layer)
                delta = self.delta_weight(name).to(weight.dtype)
                if safe_merge and not torch.isfinite(weight + delta).all():
                    raise ValueError(
                        f"NaNs detected in the merged weights. The adapter {name} seems to be "
                        "broken; nothing was merged into this layer."
                    )
                self._add_to_weight(delta)
            self.merged_adapters.append(name)

    @torch.no_grad()
    def unmerge(self, *, keep: int = 0) -> None:
        """Subtract merged ΔW from the base weight, in place, but for the first `keep` adapters."""
        while len(self.merged_adapters) > keep:
            with loaded(self.base_layer):
                delta = self.delta_weight(self.merged_adapters[-1])
                self._add_to_weight(-delta.to(dense_weight(self.base_layer).dtype))
            self.merged_adapters.pop()

    def _add_to_weight(self, delta: torch.Tensor) -> None:
        weight = dense_weight(self.base_layer)
        if offloading_hook(self.base_layer) is None:
            weight.data += delta
        else:
            # Not in place: the tensors of the hook's map may be those of another module too.
            set_weight(self.base_layer, weight + delta)

    # --- forward --------------------------------------------------------------------------------

    def _adapters_to_apply(self) -> Sequence[str]:
        """Return the adapters that act on this call; unmerge while adapters are disabled."""
        if self.adapters_disabled:
            if self.merged_adapters:
                self.unmerge()
            return ()
        if self.merged_adapters:
            return ()
        return self.active_adapters

    def _products(self, adapters: Sequence[str]) -> list[Product]:
        # The dictionaries of nn.Module, without its slow __getattr__: every forward pays for this.
        modules = self._modules
        dropouts = modules["lora_dropout"]
        return [
            Product(
                _parameter_of(modules["lora_A"], name),
                _parameter_of(modules["lora_E"], name),
                _parameter_of(modules["lora_B"], name),
                scale_of(self.scaling[name], self.initial_rank[name]),
                dropout_of(dropouts._modules[name]),  # type: ignore[union-attr, arg-type]  # noqa: SLF001 - never None
            )
            for name in adapters
            if name in self.scaling
        ]

    # --- names under which PEFT's layers show the same things -------------------------------------

    @property
    def r(self) -> dict[str, int]:
        """Triplets of each adapter, dropped ones included."""
        return {name: int(values.shape[0]) for name, values in self.lora_E.items()}

    @property
    def scale(self) -> dict[str, float]:
        """The factor on the output of each adapter, `scaling / (init_r + 1e-5)`."""
        return {
            name: scale_of(self.scaling[name], self.initial_rank[name]) for name in self.scaling
        }

    @property
    def active_adapter(self) -> list[str]:
        """The adapters that act on the output of this layer."""
        return list(self.active_adapters)

    @property
    def disable_adapters(self) -> bool:
        """Whether no adapter acts on the output; `enable_adapters` changes it."""
        return self.adapters_disabled

    def enable_adapters(self, enabled: bool) -> None:
        """Let the active adapters act on the output of this layer, or none."""
        self.adapters_disabled = not enabled

    def get_base_layer(self) -> nn.Module:
        """Return the layer that was adapted."""
        return self.base_layer

    def get_delta_weight(self, adapter: str) -> torch.Tensor:
        """Return ΔW of an adapter in the layout of the base weight."""
        return self.delta_weight(adapter)

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:  # noqa: ARG002 - PEFT's signature
        """Return whether PEFT's `convert_to_lora` can take ΔW, a whole matrix, apart."""
        return self.lora_kernel("") == () and not are_sharded(self.lora_E.values())

    def set_scale(self, adapter: str, scale: float) -> None:
        """Set the scale of an adapter to its initial scale times `scale`."""
        if adapter in self.scaling:
            self.scaling[adapter] = scale * self.lora_alpha[adapter]

    def scale_layer(self, scale: float) -> None:
        """Multiply the scale of every active adapter by `scale`."""
        for name in self.active_adapters:
            if name in self.scaling:
                self.scaling[name] *= scale

    def unscale_layer(self, scale: float | None = None) -> None:
        """Divide the scale of every active adapter by `scale`; None means the initial scale."""
        for name in self.active_adapters:
            if name in self.scaling:
                self.scaling[name] = (
                    self.lora_alpha[name] if scale is None else self.scaling[name] / scale
                )

    def extra_repr(self) -> str:
        """Show the rank of each adapter."""
        return ", ".join(f"{name}: rank {self.rank(name)}" for name in self.lora_E)


def dense_weight(base_layer: nn.Module, path: str = "the base layer") -> torch.Tensor:
    """Return the weight that a merge changes; a TypeError where none keeps a change."""
    weight = getattr(base_layer, "weight", None)
    # Exact types: a quantised or sharded weight is a subclass that reports a float dtype.
    if (
        not isinstance(weight, torch.Tensor)
        or type(weight) not in {torch.Tensor, nn.Parameter}
        or not weight.dtype.is_floating_point
    ):
        raise TypeError(
            f"merge: {path} of type {type(base_layer).__name__} has no dense floating-point weight "
            "to merge into; keep the adapter unmerged, or export it as LoRA"
        )
    refuse_computed_weight(base_layer, path)
    return weight


def refuse_computed_weight(base_layer: nn.Module, path: str) -> None:
    """Refuse to merge into a weight that each forward computes from other parameters."""
    stores = vars(base_layer)
    is_stored = "weight" in stores["_parameters"] or "weight" in stores["_buffers"]
    if not is_stored and isinstance(getattr(base_layer, "weight", None), torch.Tensor):
        raise TypeError(
            f"merge: {path} of type {type(base_layer).__name__} computes its weight from other "
            "parameters for each forward, as after weight_norm, so that a merge would be lost; "
            "keep the adapter unmerged, or remove the parametrization before the merge"
        )


def training_dtype(base_dtype: torch.dtype) -> torch.dtype:
    """Return float32 for bases of lower precision: steps of 0.1 % vanish in bfloat16."""
    return base_dtype if base_dtype in {torch.float32, torch.float64} else torch.float32


def _parameter_of(factors: Any, name: str) -> torch.Tensor:
    """Return one factor from a ParameterDict; some wrappers of models make it a plain attribute."""
    found = factors._parameters.get(name)  # noqa: SLF001 - as torch's optimizers of models
    return getattr(factors, name) if found is None else found  # type: ignore[no-any-return]


def dropout_of(module: nn.Module) -> float:
    """Return the probability that `module`, a `Dropout` or `Identity`, applies now."""
    return module.p if isinstance(module, nn.Dropout) and module.training else 0.0
