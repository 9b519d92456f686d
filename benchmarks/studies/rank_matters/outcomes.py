"""Keep the outcomes of these studies in files of JSON lines, as the first study does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from results import Results
from runs import Job, Outcome

if TYPE_CHECKING:
    from pathlib import Path


class Outcomes(Results):
    """The outcomes in a file, by job, and those of another study that count as well.

    Args:
        path: the file, to which new outcomes are added.
        recorded: the outcomes of a study before, which are looked up and not iterated.
    """

    types = (Job, Outcome)

    def __init__(self, path: Path, recorded: Outcomes | None = None) -> None:
        super().__init__(path)
        self._recorded = recorded

    def __contains__(self, job: Job) -> bool:
        return super().__contains__(job) or (self._recorded is not None and job in self._recorded)

    def __getitem__(self, job: Job) -> Outcome:
        if self._recorded is not None and not super().__contains__(job):
            return self._recorded[job]
        return super().__getitem__(job)
