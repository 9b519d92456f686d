# The compiled CPU core; `adalora_core.ops` is the way to call it. Every function checks every
# argument and raises TypeError or ValueError that names op and argument. Outputs are allocated by
# the caller and written in place.

from collections.abc import Sequence

from torch import Tensor

__version__: str
no_cuda_reason: str  # why the build has no CUDA kernels; empty if it has some

def connect() -> None: ...
def isa_name() -> str: ...
def thread_count() -> int: ...
def update_importance(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None] | None,
    smoothed: Sequence[Tensor] | Tensor,
    uncertainty: Sequence[Tensor] | Tensor,
    beta1: float,
    beta2: float,
    scores: Tensor | None,
    /,
) -> int: ...
def orthogonality_penalty(
    lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor], grams: Tensor, norms: Tensor, /
) -> float: ...
def orthogonality_gradient(
    lora_As: Sequence[Tensor],
    lora_Bs: Sequence[Tensor],
    grams: Tensor,
    norms: Tensor,
    grad: float,
    gradients: Sequence[Tensor] | Tensor,
    /,
) -> None: ...
def add_orthogonality_gradient(
    lora_As: Sequence[Tensor],
    lora_Bs: Sequence[Tensor],
    weight: float,
    gradients: Sequence[Tensor] | Tensor,
    /,
) -> float: ...
def select_triplets(
    scores: Tensor, budget: int, mask: Tensor, singular_values: Sequence[Tensor], /
) -> None: ...
def apply_mask(mask: Tensor, singular_values: Sequence[Tensor], /) -> None: ...
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
) -> None: ...
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
) -> None: ...
