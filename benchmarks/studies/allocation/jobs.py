"""Name the runs of the study: arms, settings, and the plan of what runs after what."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING

from results import Job, Results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ARMS = {
    "lora": "LoRA, one rank everywhere",
    "sensitivity": "AdaLoRA, sensitivity",
    "magnitude": "AdaLoRA, magnitude",
    "snr": "AdaLoRA, signal to noise",
    "random": "AdaLoRA, random choice",
    "retrained": "LoRA with AdaLoRA's ranks",
    "never": "AdaLoRA, never allocated (over budget)",
}
"""The arms in the order in which they run. `retrained` takes the ranks of `sensitivity`."""
PLAIN_LORA = ("lora", "retrained")
LORA_TRIES = ((1e-3, 2.0), (3e-3, 2.0), (9e-3, 2.0), (3e-3, 0.5))
ADALORA_TRIES = ((3e-3, 2.0), (9e-3, 2.0), (2.7e-2, 2.0), (9e-3, 0.5))
"""Learning rate and scale, around where a few runs on the development split found the best."""
SWEPT_ARMS = ("lora", "sensitivity")
SWEPT_SCALES = (0.125, 0.5, 2.0)
AFTERWARDS = {
    "lora": ((1e-3, 8.0), (3e-3, 8.0), (1e-3, 32.0), (3e-3, 32.0)),
    "sensitivity": ((1e-3, 2.0), (1e-3, 8.0), (3e-3, 8.0), (1e-3, 32.0), (3e-3, 32.0)),
}
"""More tries, thought of when the results on the first set were known; they change no choice."""
AGAIN = "sensitivity"
"""The arm that is tested again, with the best of all its tries."""
TUNING_SEED = 0


def tries(arm: str) -> tuple[tuple[float, float], ...]:
    """Return the learning rates and scales that are tried, as many for each arm."""
    return LORA_TRIES if arm in PLAIN_LORA else ADALORA_TRIES


@dataclass(frozen=True, slots=True)
class Setting:
    """What all runs of a study have in common.

    Attributes:
        model: folder of a BERT-like encoder; the demo's MiniLM if None.
        steps: optimizer steps of a run.
        batch: sentences of a step.
        tokens: longer sentences are cut.
        target_r: rank of plain LoRA, and mean rank at the end of AdaLoRA.
        init_r: rank of every matrix at the start of AdaLoRA.
    """

    model: Path | None = None
    steps: int = 200
    batch: int = 16
    tokens: int = 48
    target_r: int = 4
    init_r: int = 8

    @property
    def name(self) -> str:
        """Name the setting in the results; runs of two settings are never compared."""
        model = self.model.name if self.model else "MiniLM"
        sizes = f"{self.steps} steps of {self.batch} sentences, {self.tokens} tokens"
        return f"{model}, {sizes}, rank {self.init_r} to {self.target_r}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of a study.

    Attributes:
        setting: what all runs have in common.
        data: the sets of sentences, in order; the scale is swept on the first.
        seeds: how many test runs each arm has.
    """

    setting: Setting = field(default_factory=Setting)
    data: tuple[str, ...] = ("products", "tweets")
    seeds: int = 5

    def __len__(self) -> int:
        """The number of runs."""
        return sum(sum(self.counts(data).values()) for data in self.data)

    def counts(self, data: str) -> dict[str, int]:
        """Return the number of runs on one set by stage."""
        is_first = data == self.data[0]
        # One of the swept scales is the tuned one, whose runs are there already.
        swept = len(SWEPT_ARMS) * (len(SWEPT_SCALES) - 1) if is_first else 0
        return {
            "tune": sum(len(tries(arm)) for arm in ARMS),
            "test": (len(ARMS) + swept) * self.seeds,
            "after": sum(map(len, AFTERWARDS.values())) if is_first else 0,
            "again": self.seeds if is_first else 0,
        }

    def __contains__(self, job: Job) -> bool:
        seeds = {TUNING_SEED, *self.test_seeds}
        return job.setting == self.setting.name and job.data in self.data and job.seed in seeds

    def jobs(self, results: Results) -> Iterator[Job]:
        """Yield all runs in order, those included that have an outcome.

        Later runs depend on the outcomes of earlier ones: the caller adds the outcome of a job to
        `results` before asking for the next. The jobs end where an outcome is missing.
        """
        for data in self.data:
            for arm in ARMS:
                yield from self.tuning(data, arm)
            # All arms of a seed before the next seed: a study that is stopped compares all arms.
            for seed, arm in product(self.test_seeds, ARMS):
                if not (job := self.test(data, arm, seed, results)):
                    return
                yield job
            if data == self.data[0]:
                yield from self._more_on_the_first(results)

    def _more_on_the_first(self, results: Results) -> Iterator[Job]:
        """Yield the runs at other scales, those that nobody planned included."""
        for seed, scale, arm in product(self.test_seeds, SWEPT_SCALES, SWEPT_ARMS):
            if job := self.test(self.data[0], arm, seed, results):
                yield replace(job, scale=scale)
        for arm in AFTERWARDS:
            yield from self.afterwards(arm)
        for seed in self.test_seeds:
            if best := self.best_of_all(AGAIN, results):
                yield replace(best, stage="again", seed=seed)

    @property
    def test_seeds(self) -> range:
        """The seeds of the test runs."""
        return range(TUNING_SEED + 1, TUNING_SEED + 1 + self.seeds)

    def tuning(self, data: str, arm: str) -> list[Job]:
        """Return the tuning runs of an arm."""
        return [
            Job(self.setting.name, data, "tune", arm, rate, scale, TUNING_SEED)
            for rate, scale in tries(arm)
        ]

    def afterwards(self, arm: str) -> list[Job]:
        """Return the tries of an arm on the first set that nobody planned."""
        return [
            Job(self.setting.name, self.data[0], "after", arm, rate, scale, TUNING_SEED)
            for rate, scale in AFTERWARDS[arm]
        ]

    def best(self, data: str, arm: str, results: Results) -> Job | None:
        """Return the try with the highest Spearman correlation, or None while one is missing."""
        return self._best(self.tuning(data, arm), results)

    def best_of_all(self, arm: str, results: Results) -> Job | None:
        """Return the best try on the first set, planned or later, or None while one is missing."""
        return self._best([*self.tuning(self.data[0], arm), *self.afterwards(arm)], results)

    @staticmethod
    def _best(jobs: list[Job], results: Results) -> Job | None:
        if not all(job in results for job in jobs):
            return None
        return max(jobs, key=lambda job: results[job].spearman)

    def test(self, data: str, arm: str, seed: int, results: Results) -> Job | None:
        """Return a test run with what tuning found, or None while the tuning is incomplete."""
        best = self.best(data, arm, results)
        return best and replace(best, stage="test", seed=seed)
