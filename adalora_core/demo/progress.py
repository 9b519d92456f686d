"""Show the progress of the training loop."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Self

from tqdm import tqdm

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO

    from adalora_core.demo.training import StepReport

SMOOTHING = 0.9
"""Weight of the past in the shown loss; the loss of a single batch jumps too much."""

LOG_WIDTH = 100
LOG_SECONDS = 10.0
"""Time between two refreshes if the bar goes into a file or a pipe, which keeps each."""


class ProgressBar:
    """Shows loss, phase, budget and active rank of a running training loop.

    Args:
        total: optimizer steps of the run.
        stream: the stream that the bar is drawn on.
    """

    def __init__(self, total: int, stream: TextIO) -> None:
        on_terminal = stream.isatty()
        self._bar = tqdm(
            total=total,
            file=stream,
            mininterval=0.1 if on_terminal else LOG_SECONDS,
            # tqdm's own width shows nothing on a terminal that reports no size.
            ncols=shutil.get_terminal_size((LOG_WIDTH, 0)).columns,
            nrows=2,
            # Short enough for a terminal of 80 columns.
            bar_format="{percentage:3.0f}%|{bar}| {n}/{total}, {remaining} left{postfix}",
        )
        self._loss: float | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def show(self, report: StepReport) -> None:
        """Advance the bar by one step."""
        past = report.loss if self._loss is None else self._loss
        self._loss = SMOOTHING * past + (1 - SMOOTHING) * report.loss
        self._bar.set_postfix_str(
            f"loss {self._loss:.2f}, {report.phase.value}, budget {report.budget}, "
            f"rank {report.mean_rank:.1f}",
            refresh=False,
        )
        self._bar.update()
