"""Turn a source into a report, in the same way for the API and the command.

`documents.decode` reads the source. `discovery` finds the configurations in it. `inspection` runs
the rules and locates the findings; for the command it also selects, suppresses and fixes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adalora_core.config.fields.block import BlockOptions
from adalora_core.floor.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from adalora_core.checker.pipeline.policy import Policy


@dataclass(frozen=True, slots=True)
class CheckOptions(BlockOptions):
    """How to check a document; the first arguments are those of `BlockOptions`.

    Args:
        limits: bounds on the size and cost of a document.
        policy: an organisation's own schema that the configuration must satisfy too.
    """

    limits: Limits = DEFAULT_LIMITS
    policy: Policy | None = None


def parse_version(version: str | None) -> tuple[int, ...] | None:
    """Read a PEFT release such as `0.17` or `0.17.1`.

    Raises:
        ValueError: the text is not two or three numbers with dots between them.
    """
    if version is None:
        return None
    parts = version.split(".")
    if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
        raise ValueError(
            f"peft_version: expected a release such as 0.17 or 0.17.1, got {version!r}"
        )
    return tuple(int(part) for part in parts)
