"""Judge the steps that `update_and_allocate` is given: 0, 1, 2 and so on."""

from __future__ import annotations

_UNSEEN = 50
"""Steps that a gradient scaler may have skipped where no forward is seen, as with torch.compile."""


class StepOrder:
    """Judges the step of each call by the one before.

    A loop may leave out the call where a gradient scaler skips the step, so a step that is too high
    is a fault only if there were fewer training forwards than steps.
    """

    def __init__(self) -> None:
        self._forwards = 0
        self._jumps_in_a_row = 0
        self._several = 0

    def fault(self, step: int, last: int | None, optimizer_steps: int, forwards: int) -> str:
        """Return what is wrong with `step` after `last`, or nothing.

        Args:
            step: the step of this call.
            last: the step of the call before; None before the first.
            optimizer_steps: steps that optimizers made between the two calls.
            forwards: training forwards so far.
        """
        since = forwards - self._forwards
        self._forwards = forwards
        if last is None:
            return f"got step {step} first" if step > (since or _UNSEEN) else ""
        if step == last:
            return (
                f"got step {step} a second time, so its gradients count twice in the importance; "
                "where allocate_on_step or AdaLoraCallback calls it, take it out of the loop"
            )
        if step < last:
            return f"got step {step} after step {last}: the steps go back"
        if self._jumps(step - last, optimizer_steps, since):
            return (
                f"got step {step} after step {last}: the steps jump, with {optimizer_steps} steps "
                "of the optimizer between"
            )
        return ""

    def _jumps(self, distance: int, optimizer_steps: int, forwards: int) -> bool:
        if distance == 1:
            self._jumps_in_a_row = self._several = 0
            return False
        self._jumps_in_a_row += 1
        self._several += optimizer_steps > 1
        return distance > (forwards or _UNSEEN) or self._several > 1 or self._jumps_in_a_row > 4  # noqa: PLR2004
