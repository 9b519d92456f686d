"""Keep the outcomes of this study in a file of JSON lines, as the first study does."""

from __future__ import annotations

import json
from dataclasses import fields

from results import Results
from runs import Job, Outcome


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
    """The outcomes in a file, by job."""

    parsed = staticmethod(parsed)
