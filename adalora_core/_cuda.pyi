# The compiled CUDA core; `adalora_core.ops` is the way to call it. Every function checks every
# argument and raises TypeError or ValueError that names op and argument. Outputs and rooms are
# allocated by the caller; kernels go to torch's current stream, and nothing waits for them.

from collections.abc import Sequence

from torch import Tensor

__version__: str
architectures: str

def connect() -> None: ...
def runtime_version() -> int: ...
def required_driver_version() -> int: ...
def driver_version() -> int: ...
def problem_of(arg0: int, /) -> str: ...
def score_room(parameters: Sequence[Tensor], /) -> int: ...
def update_importance(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor | None] | None,
    smoothed: Sequence[Tensor] | Tensor,
    uncertainty: Sequence[Tensor] | Tensor,
    beta1: float,
    beta2: float,
    scores: Tensor | None,
    partials: Tensor | None,
    skipped: Tensor,
    /,
) -> bool: ...
def gram_room(lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor], /) -> int: ...
def orthogonality_penalty(
    lora_As: Sequence[Tensor],
    lora_Bs: Sequence[Tensor],
    partials: Tensor,
    grams: Tensor,
    norms: Tensor,
    result: Tensor,
    /,
) -> None: ...
def orthogonality_gradient(
    lora_As: Sequence[Tensor],
    lora_Bs: Sequence[Tensor],
    grams: Tensor,
    norms: Tensor,
    grad: Tensor,
    gradients: Sequence[Tensor] | Tensor,
    /,
) -> None: ...
def select_triplets(
    scores: Tensor, budget: int, mask: Tensor, singular_values: Sequence[Tensor], /
) -> None: ...
def apply_mask(mask: Tensor, singular_values: Sequence[Tensor], /) -> None: ...
def fold_factors(
    A: Tensor, E: Tensor, B: Tensor, scale: float, folded_A: Tensor, folded_B: Tensor, /
) -> None: ...
def unfold_gradients(
    grad_folded_A: Tensor | None,
    grad_folded_B: Tensor | None,
    A: Tensor,
    E: Tensor,
    B: Tensor,
    scale: float,
    grad_A: Tensor | None,
    grad_E: Tensor | None,
    grad_B: Tensor | None,
    /,
) -> None: ...
def drop(x: Tensor, probability: float, seed: Tensor, output: Tensor, /) -> None: ...
