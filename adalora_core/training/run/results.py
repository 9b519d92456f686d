"""Look for faults of a run where it ends: matrices without a gradient, a budget not reached."""

from __future__ import annotations

from adalora_core.config.rules import runs
from adalora_core.training.run.watch import End, RunWatch, Watcher


class MatricesHaveGradients(Watcher):
    """Look for matrices that are trained, and that the loss has not reached once."""

    rule = runs.MatrixWithoutGradient
    MOST_NAMES = 8
    """Modules that the finding names."""

    def end(self, run: RunWatch, end: End) -> str:
        """Name them."""
        allocator = end.allocator
        if not allocator.target_reached or allocator.without_gradient is None:
            return ""
        trained = [each.requires_grad for each in allocator.parameters()[1::3]]
        flags = zip(allocator.without_gradient.tolist(), trained, allocator.matrices, strict=True)
        lacking = [matrix.path for lacks, is_trained, matrix in flags if lacks and is_trained]
        if not lacking:
            return ""
        shown, more = ", ".join(lacking[: self.MOST_NAMES]), len(lacking) - self.MOST_NAMES
        return (
            f"the singular values of {len(lacking)} of {len(allocator.matrices)} matrices of "
            f"{run.adapter} had no gradient in the whole run: {shown}"
        ) + (f" and {more} more" if more > 0 else "")


class BudgetIsReached(Watcher):
    """Compare what is kept with the target."""

    rule = runs.BudgetNotReached

    def end(self, run: RunWatch, end: End) -> str:
        """Name both, unless a checkpoint is saved."""
        allocator = end.allocator
        is_result = end.what and not (end.is_checkpoint or run.saves_are_checkpoints)
        is_over = allocator.target_reached or end.kept <= end.target
        if is_over or not is_result or not end.is_called:
            return ""
        last = run.automatic.step if run.automatic.is_expected(run) else allocator.last_step
        steps = 0 if last is None else last + 1
        return (
            f"{run.adapter} is {end.what} at step {steps} of {allocator.schedule.total_step} with "
            f"{end.kept} triplets, target {end.target}"
        )
