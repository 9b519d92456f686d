"""The base class of adapted layers: a frozen layer and the factors of its adapter.

Parameters are `lora_A.default` [r, in], `lora_E.default` [r, 1] and `lora_B.default` [out, r], the
names that PEFT writes to disk.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn

from adalora_core.floor.adapter_spec import LORA_START, AdapterSpec
from adalora_core.ops._portable.svd_linear import without_autocast

MOST_TRIPLETS = 1 << 20
"""Limit on the rank of one matrix, whose rows are listed one by one."""
TRIPLET_AXES = {"lora_A": 0, "lora_E": 0, "lora_B": 1}
"""The axis of each factor that counts triplets."""

FACTORS = tuple(TRIPLET_AXES)

DEFAULT_ADAPTER = "default"
"""The name of the only adapter of a model of this package; models of PEFT may have others."""


class Product(NamedTuple):
    """The operands of what one adapter adds, `scale · ((drop(x) Aᵀ) ⊙ Eᵀ) Bᵀ`."""

    A: torch.Tensor
    E: torch.Tensor
    B: torch.Tensor
    scale: float
    dropout: float


class AdaLoraLayer(nn.Module):
    """A `base_layer` and its adapter; a subclass defines how the adapter acts on the output.

    Attributes:
        base_layer: the layer that was adapted; frozen once there is an adapter.
        lora_A, lora_E, lora_B: the factors, `{"default": Parameter}`.
        lora_dropout: what is applied to the input, `{"default": Dropout or Identity}`.
        scale: the factor on the output of the adapter; pruning does not change it.
        is_disabled: whether the adapter does not act on the output.
        transposed_weight: whether the base weight is `[in, out]`, PEFT's `fan_in_fan_out`.
    """

    in_features: int
    out_features: int
    transposed_weight = False

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.ParameterDict()
        self.lora_E = nn.ParameterDict()
        self.lora_B = nn.ParameterDict()
        self.lora_dropout = nn.ModuleDict()
        self.scale = 0.0
        self.is_disabled = False

    def __getattr__(self, name: str) -> Any:
        # Not through nn.Module: every forward looks up the base layer and the factors here.
        modules = self.__dict__.get("_modules", {})
        if name in modules:
            return modules[name]
        return super().__getattr__(name)

    @property
    def factor_shapes(self) -> tuple[int, int]:
        """`(columns of A, rows of B)`."""
        return self.in_features, self.out_features

    @property
    def lora_kernel(self) -> tuple[int, ...] | None:
        """The trailing dimensions of the `lora_A` of this layer's LoRA: `()` if it is a matrix.

        None means that this type of layer cannot be written as LoRA.
        """
        return None

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
        spec: AdapterSpec,
        *,
        rank: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Create the factors of the adapter, and freeze the base layer.

        `spec.init_lora_weights` is the start, see `initial_factors`. `rank` is `spec.init_r` unless
        a pruned adapter is being loaded. Without `dtype` the factors have `training_dtype` of the
        base layer.

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
        place, base_dtype = self.base_device_and_dtype()
        dtype = dtype or training_dtype(base_dtype)
        columns, rows = self.factor_shapes
        shapes = {"lora_A": (rank, columns), "lora_E": (rank, 1), "lora_B": (rows, rank)}
        for factor, values in initial_factors(shapes, spec, device).items():
            # On meta inside `torch.device("meta")`, and rounded to the base's dtype first: as PEFT.
            where = values.device if values.is_meta else device or place
            placed = values.to(where, rounding_dtype(self.base_layer)).to(dtype)
            getattr(self, factor)[DEFAULT_ADAPTER] = nn.Parameter(placed)
        dropout = nn.Dropout(spec.lora_dropout) if spec.lora_dropout > 0 else nn.Identity()
        self.lora_dropout[DEFAULT_ADAPTER] = dropout.train(self.training)
        self.scale = spec.scale

    @property
    def rank(self) -> int:
        """How many triplets the adapter holds, dropped ones included."""
        return int(self.lora_E[DEFAULT_ADAPTER].shape[0])

    def set_factors(self, **factors: torch.Tensor) -> None:
        """Replace the values of `lora_A`, `lora_E` and `lora_B`, shapes included.

        Where shape, dtype or device change, the parameter becomes a new object, and an optimizer
        still holds the old one.
        """
        for factor, values in factors.items():
            old = getattr(self, factor)[DEFAULT_ADAPTER]
            if (old.shape, old.dtype, old.device) == (values.shape, values.dtype, values.device):
                with torch.no_grad():
                    old.copy_(values)
                continue
            new = nn.Parameter(values, requires_grad=old.requires_grad)
            getattr(self, factor)[DEFAULT_ADAPTER] = new

    def base_device_and_dtype(self) -> tuple[torch.device | None, torch.dtype]:
        """Return where the base layer's first floating-point tensor is, and its dtype.

        Without one the dtype is torch's default.
        """
        tensors = (*self.base_layer.parameters(), *self.base_layer.buffers())
        for tensor in tensors:
            if tensor.dtype.is_floating_point:
                return tensor.device, tensor.dtype
        return (tensors[0].device if tensors else None), torch.get_default_dtype()

    @torch.no_grad()
    def delta_weight(self) -> torch.Tensor:
        """Return `scale · B diag(E) A` in the layout of the base weight, in the dtype of A."""
        A, E, B = (getattr(self, factor)[DEFAULT_ADAPTER] for factor in FACTORS)
        with without_autocast(A):
            product: torch.Tensor = B @ (A * E)
        return product * self.scale

    def _products(self) -> list[Product]:
        """Return the operands of the adapter; nothing while it is disabled."""
        if self.is_disabled:
            return []
        # The dictionaries of nn.Module, without its slow __getattr__: every forward pays for this.
        modules = self._modules
        A, E, B = [_parameter_of(modules[factor]) for factor in FACTORS]
        dropout: Any = modules["lora_dropout"]
        return [Product(A, E, B, self.scale, dropout_of(dropout._modules[DEFAULT_ADAPTER]))]  # noqa: SLF001 - same

    def extra_repr(self) -> str:
        """Show the rank of the adapter."""
        return f"rank {self.rank}" if len(self.lora_E) else ""


def dense_weight(base_layer: nn.Module, path: str) -> torch.Tensor:
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


def _parameter_of(factors: Any) -> torch.Tensor:
    """Return one factor from a ParameterDict; some wrappers of models make it a plain attribute."""
    found = factors._parameters.get(DEFAULT_ADAPTER)  # noqa: SLF001 - as torch's optimizers of models
    return getattr(factors, DEFAULT_ADAPTER) if found is None else found  # type: ignore[no-any-return]


def dropout_of(module: nn.Module) -> float:
    """Return the probability that `module`, a `Dropout` or `Identity`, applies now."""
    return module.p if isinstance(module, nn.Dropout) and module.training else 0.0


INIT_STD = 0.02
"""Standard deviation of A and B at the start, as in the authors' code and in PEFT."""


def initial_factors(
    shapes: dict[str, tuple[int, int]], spec: AdapterSpec, device: torch.device | None
) -> dict[str, torch.Tensor]:
    """Return A, E and B of a new adapter; ΔW is zero unless `init_lora_weights` is false.

    By default E is zero, and A and B are normal with standard deviation `INIT_STD`. PEFT draws
    every factor from a normal distribution of deviation 1, then one number that it overwrites, and
    then A and B anew. The same draws in the same order give the same adapter and leave the
    generator in the same state. With `init_lora_weights` false the first draws are kept.

    With `init_lora_weights` "lora" the start is that of `lora_start`.
    """
    if device is not None and device.type == "meta":
        return {factor: torch.empty(shape, device=device) for factor, shape in shapes.items()}
    if spec.init_lora_weights == LORA_START:
        return lora_start(shapes)
    drawn = {factor: torch.randn(shape) for factor, shape in shapes.items()}
    torch.randn(1)
    if spec.init_lora_weights:
        drawn["lora_E"].zero_()
        drawn["lora_A"].normal_(std=INIT_STD)
        drawn["lora_B"].normal_(std=INIT_STD)
    return drawn


def lora_start(shapes: dict[str, tuple[int, int]]) -> dict[str, torch.Tensor]:
    """Return the start of LoRA: A is Kaiming-uniform with a = √5, E is 1 and B is 0.

    PEFT's LoRA draws A and B as torch does for a new layer, and then A anew. The same draws in the
    same order give the same A, and leave the generator in the same state.
    """
    A, B = torch.empty(shapes["lora_A"]), torch.empty(shapes["lora_B"])
    for factor in (A, B, A):
        if factor.numel():  # of rank 0, torch would warn
            nn.init.kaiming_uniform_(factor, a=math.sqrt(5))
    return {"lora_A": A, "lora_E": torch.ones(shapes["lora_E"]), "lora_B": B.zero_()}


def rounding_dtype(base_layer: nn.Module) -> torch.dtype | None:
    """Return the dtype to which PEFT rounds the initial factors; None if it does not round them."""
    computed = getattr(base_layer, "compute_dtype", None)
    if isinstance(computed, torch.dtype):
        return computed
    weight = getattr(base_layer, "weight", getattr(base_layer, "qweight", None))
    if isinstance(weight, torch.Tensor) and weight.dtype.is_floating_point:
        return weight.dtype
    return None
