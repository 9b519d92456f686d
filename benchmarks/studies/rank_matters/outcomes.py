"""Keep the outcomes of these studies in files of JSON lines, as the first study does."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING

from results import Results
from runs import Job, Outcome

if TYPE_CHECKING:
    from pathlib import Path


def parsed(line: str) -> Outcome:
    """Return the outcome in one line.

    Raises:
        ValueError: the line is not JSON.
        TypeError: a field is missing or unknown.
        KeyError: a field of the job is missing.
    """
    held = json.loads(line)
    job = Job(**{each.name: held.pop(each.name) for each in fields(Job)})
    return Outcome(job=job, **held)


class Outcomes(Results):
    """The outcomes in a file, by job, and those of another study that count as well.

    Args:
        path: the file, to which new outcomes are added.
        recorded: the outcomes of a study before, which are looked up and not iterated.
    """

    parsed = staticmethod(parsed)

    def __init__(self, path: Path, recorded: Outcomes | None = None) -> None:
        super().__init__(path)
        self._recorded = recorded

    def __contains__(self, job: Job) -> bool:
        return super().__contains__(job) or (self._recorded is not None and job in self._recorded)

    def __getitem__(self, job: Job) -> Outcome:
        if self._recorded is not None and not super().__contains__(job):
            return self._recorded[job]
        return super().__getitem__(job)
