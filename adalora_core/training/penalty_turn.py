"""Which forward of an optimizer step adds the orthogonality penalty to the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class PenaltyTurn:
    """Lets every training forward add the penalty, or only the first of an optimizer step.

    Under gradient accumulation transformers' Trainer divides the losses of a step by the number of
    micro-batches, unless it hands the model `num_items_in_batch`: then they are summed as they are,
    and a penalty in each of them would count as often as there are micro-batches.
    """

    def __init__(self) -> None:
        self._pending: bool | None = None

    def begin_step(self) -> None:
        """Note that the next forward is the first of an optimizer step."""
        self._pending = True

    def take(self, arguments: Mapping[str, Any]) -> bool:
        """Return whether the forward with these arguments adds the penalty.

        Without a `begin_step` nobody knows where steps begin, and every forward does.
        """
        if self._pending is None or arguments.get("num_items_in_batch") is None:
            return True
        pending, self._pending = self._pending, False
        return pending
