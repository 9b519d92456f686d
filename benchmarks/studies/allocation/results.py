"""Keep the outcomes of runs in a file of JSON lines, one for each run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from adalora_core.floor.files import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """One run: what is trained, how, and on which split.

    Attributes:
        setting: name of the setting.
        data: the set of sentences.
        stage: "tune" and "after" are measured on the development split, "test" and "again" on the
            test split.
        arm: a key of ARMS.
        learning_rate: peak of the schedule, for adapters and head.
        scale: factor of the adapters: alpha / rank for LoRA, alpha / init_r for AdaLoRA.
        seed: decides split, initial values, order of the batches and dropout.
    """

    setting: str
    data: str
    stage: str
    arm: str
    learning_rate: float
    scale: float
    seed: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run gave.

    Attributes:
        job: the run.
        spearman: rank correlation of prediction and mean rating.
        accuracy: share of sentences whose prediction has the sign of the mean rating.
        triplets: what all matrices keep at the end.
        parameters: adapter parameters that this takes, as in an export to LoRA.
        steps: optimizer steps.
        cpu_seconds: time of the process from loading the model to the last prediction.
        machine: processor and versions.
        ranks: rank of each matrix, in the order of the modules; empty for plain LoRA.
    """

    job: Job
    spearman: float
    accuracy: float
    triplets: int
    parameters: int
    steps: int
    cpu_seconds: float
    machine: str
    ranks: list[int] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Return the outcome as a flat mapping, as a line of the results holds it."""
        held = asdict(self)
        return {**held.pop("job"), **held}


class Results:
    """The outcomes in a file, by job.

    Args:
        path: the file; made with the first outcome.

    Attributes:
        types: of a job and of its outcome; a study with others has its own.

    Raises:
        ValueError: a line is not an outcome.
    """

    types: tuple[type[Any], type[Any]] = (Job, Outcome)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[Job, Outcome] = {}
        for number, line in enumerate(self._lines(), start=1):
            try:
                outcome = self.parsed(line)
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"{path}, line {number}: expected one run, got {line[:60]!r} ({error}); "
                    "delete the line, and the run is repeated"
                ) from None
            self._outcomes[outcome.job] = outcome

    def parsed(self, line: str) -> Outcome:
        """Return the outcome in one line.

        Raises:
            ValueError: the line is not JSON.
            TypeError: a field is missing or unknown.
            KeyError: a field of the job is missing.
        """
        job_type, outcome_type = self.types
        held = json.loads(line)
        job = job_type(**{each.name: held.pop(each.name) for each in fields(job_type)})
        made: Outcome = outcome_type(job=job, **held)
        return made

    def __contains__(self, job: Job) -> bool:
        return job in self._outcomes

    def __getitem__(self, job: Job) -> Outcome:
        return self._outcomes[job]

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self._outcomes.values())

    def __len__(self) -> int:
        return len(self._outcomes)

    def add(self, outcome: Outcome) -> None:
        """Add an outcome to the file.

        The file is replaced by a whole one: a kill at any moment leaves the old or the new file.
        """
        line = json.dumps(outcome.record())
        write_file(self._path, "".join(f"{each}\n" for each in [*self._lines(), line]).encode())
        self._outcomes[outcome.job] = outcome

    def _lines(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
