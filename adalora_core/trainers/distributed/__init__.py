"""Training in many processes: checkpoints for any number of processes, and checks."""

from __future__ import annotations

from adalora_core.trainers.distributed.agreement import (
    allocate_within,
    check_agreement,
    factor_placement,
)
from adalora_core.trainers.distributed.checkpoint import AdapterState

__all__ = ["AdapterState", "allocate_within", "check_agreement", "factor_placement"]
