"""`orthogonality_penalty` in plain torch: the distance of the factors from orthonormality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def orthogonality_penalty(lora_As: Sequence[Tensor], lora_Bs: Sequence[Tensor]) -> Tensor:
    """Return the mean distance from orthonormality; see `adalora_core.ops.orthogonality_penalty`.

    The mean over all A and B of `||A A^T - I||_F` and `||B^T B - I||_F` (paper equation 4, but
    un-squared and averaged, as PEFT does).

    Example:
        >>> orthogonality_penalty([torch.eye(2)], [2 * torch.eye(2)])
        tensor(2.1213)
    """
    grams = [A @ A.T for A in lora_As] + [B.T @ B for B in lora_Bs]
    norms = [torch.linalg.matrix_norm(gram - torch.eye(gram.shape[0]).to(gram)) for gram in grams]
    return torch.stack(norms).mean()
