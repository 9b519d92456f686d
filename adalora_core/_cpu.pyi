"""The compiled CPU core; `adalora_core.ops` is the way to call it.

Every function checks every argument and raises TypeError or ValueError that names op and argument.
Outputs are allocated by the caller and written in place.
"""

from collections.abc import Sequence

from torch import Tensor

__version__: str

def connect() -> None:
    """Read torch's exchange table; ImportError says why it cannot be used."""

def isa_name() -> str:
    """The instruction set that the kernels use."""

def thread_count() -> int:
    """Threads that a large op is spread over."""

def update_importance(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    smoothed: Sequence[Tensor],
    uncertainty: Sequence[Tensor],
    beta1: float,
    beta2: float,
    scores: Tensor | None,
    /,
) -> int:
    """Update the averages; return how many entries were skipped."""

def select_triplets(
    scores: Tensor, budget: int, mask: Tensor, singular_values: Sequence[Tensor], /
) -> None:
    """Write mask and zero what is dropped."""

def apply_mask(mask: Tensor, singular_values: Sequence[Tensor], /) -> None:
    """Zero the singular values that mask drops."""

def orthogonality_penalty(
    lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor], grams: Tensor, norms: Tensor, /
) -> float:
    """Write grams and norms; return the mean."""

def orthogonality_gradient(
    lora_As: Sequence[Tensor],
    lora_Bs: Sequence[Tensor],
    grams: Tensor,
    norms: Tensor,
    grad: float,
    gradients: Sequence[Tensor],
    /,
) -> None:
    """Write the gradients of all factors."""

def svd_linear_forward(
    base_output: Tensor,
    x: Tensor,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    dropout: float,
    seed: int,
    hidden: Tensor,
    output: Tensor,
    /,
) -> None:
    """Write hidden and output."""

def svd_linear_backward(
    grad: Tensor,
    x: Tensor,
    hidden: Tensor,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    dropout: float,
    seed: int,
    grad_x: Tensor | None,
    grad_A: Tensor | None,
    grad_E: Tensor | None,
    grad_B: Tensor | None,
    accumulate_x: bool,
    /,
) -> None:
    """Write the gradients that are not None."""
