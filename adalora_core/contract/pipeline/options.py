"""The options of a check, in one value that every layer hands on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adalora_core.contract.text.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from adalora_core.contract.fields.table import Runtime
    from adalora_core.contract.pipeline.policy import Policy


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How to judge.

    Args:
        runtime: who will train.
        strict_keys: whether an unknown key is an error.
        peft_version: the PEFT release to judge for, as numbers; None: the one of the contract.
        limits: what a document may ask of this process.
        policy: a schema of the organisation's own that must hold as well.
    """

    runtime: Runtime = "peft"
    strict_keys: bool = False
    peft_version: tuple[int, ...] | None = None
    limits: Limits = DEFAULT_LIMITS
    policy: Policy | None = None
