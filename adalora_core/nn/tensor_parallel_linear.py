"""TensorParallelLinear: adapters of a linear layer in a model that tensor parallelism divides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from adalora_core.floor.errors import ParallelismError
from adalora_core.nn.adapter_layer import FACTORS, Product
from adalora_core.nn.svd_linear import SVDLinear
from adalora_core.sharding.layout import LinearDivision, is_sharded

if TYPE_CHECKING:
    from adalora_core.floor.adapter_spec import AdapterSpec


class TensorParallelLinear(SVDLinear):
    """A linear layer whose processes compute parts of it, with adapters divided like it.

    A layer that is divided over its output has a part of B on each process, and sums the gradient
    of `(x Aᵀ) ⊙ Eᵀ`. A layer that is divided over its input has a part of A, and sums `x Aᵀ`. Both
    sums have r numbers per row of x. Every gradient of a factor is then complete, and equal where
    processes hold the same. In one optimizer all factors have to be of one kind, so those of
    undivided layers are DTensors too.
    """

    def __init__(
        self, base_layer: nn.Module, *, division: LinearDivision, path: str, **sizes: int
    ) -> None:
        super().__init__(base_layer, keeps_output=True, **sizes)  # type: ignore[arg-type] # one is a flag
        self.division = division
        self.path = path

    def add_adapter(self, name: str, spec: AdapterSpec, **options: Any) -> None:
        """Create the factors of the adapter `name`; the values are those of the first process."""
        super().add_adapter(name, spec, **options)
        for factor in FACTORS:
            factors = getattr(self, factor)
            divided = self.division.divided(factor, factors[name].detach())
            factors[name] = torch.nn.Parameter(divided)

    def set_factors(self, name: str, **factors: torch.Tensor) -> None:
        """Replace the values of factors by whole ones; every process has to call it."""
        divided = {each: self.division.divided(each, factors[each]) for each in factors}
        super().set_factors(name, **divided)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Apply the base layer and the active adapters to the input of this process."""
        division = self.division
        if not (division.divides_input or division.divides_output):
            return super().forward(x, *args, **kwargs)
        products = self._products(self._adapters_to_apply())
        output: torch.Tensor = self.base_layer(x, *args, **kwargs)
        for product in products:
            self._refuse_other_shapes(x, output, product)
            output = output + self._added_by(product, x).to(output.dtype)
        return output

    def _products(self, adapters: Sequence[str]) -> list[Product]:
        return [
            each._replace(**{letter: getattr(each, letter).to_local() for letter in "AEB"})
            for each in super()._products(adapters)
        ]

    def _added_by(self, product: Product, x: torch.Tensor) -> torch.Tensor:
        # The dtype of the products is that of `ops.svd_linear`.
        dtype = product.A.dtype if x.is_cpu else x.dtype
        A, E, B = (each.to(dtype) for each in product[:3])
        hidden = functional.linear(x.to(dtype), A)
        if self.division.divides_input:
            hidden = self.division.sum_of(hidden)
        hidden = hidden * E.T
        if self.division.divides_output:
            hidden = self.division.with_summed_gradient(hidden)
        return functional.linear(hidden, B) * product.scale

    def _refuse_other_shapes(self, x: torch.Tensor, output: torch.Tensor, product: Product) -> None:
        expected = ([*x.shape[:-1], product.A.shape[1]], [*x.shape[:-1], product.B.shape[0]])
        found = ([*x.shape], [*output.shape])
        if found != expected or is_sharded(x) or is_sharded(output):
            raise ParallelismError(
                f"forward: under tensor parallelism the layer {self.path!r} expected an input of "
                f"shape {expected[0]} and an output of shape {expected[1]} as plain tensors, got "
                f"{type(x).__name__} {found[0]} and {type(output).__name__} {found[1]}. Use "
                "ColwiseParallel() or RowwiseParallel() with their default layouts for it, or "
                "leave it out of target_modules"
            )
