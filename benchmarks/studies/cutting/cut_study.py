"""Cut a trained LoRA by four choices of its ranks, beside LoRA trained at the final size.

    python benchmarks/studies/cutting/cut_study.py          # the third study of docs/evidence.md
    python benchmarks/studies/cutting/cut_study.py --plan   # what it runs and what is missing
    python tools/regenerate.py cut-study                    # the page, from the results

Each run is added to the results as it ends. Stopped at any moment, the same command goes on with
the run that was interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

# Set before torch and transformers are loaded: all files are local, and idle threads must not spin.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
HERE = Path(__file__).parent
SECOND = HERE.parent / "rank_matters"
sys.path[:0] = [str(HERE), str(SECOND), str(HERE.parent / "allocation")]

import outcomes as second_study
import runs
from cut_runs import PARTS, SCALE, TEXT_STEPS, WHOLE, WORDS, Job, Outcome, Outcomes
from tasks import TASKS

from adalora_core.floor.errors import AdaLoraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from texts import Text

RESULTS = HERE / "results.jsonl"
TEXTS = ("code", "languages", "prose-code")
"""The tasks of the second study where rank matters, as far as was known before the first run."""
TRIES = dict.fromkeys(TEXTS, (0.005, 0.01, 0.02)) | {WORDS: (0.001, 0.002, 0.004), "short": (0.04,)}
TUNING_SEED = 101
TUNED_RANK = 5
"""Where the second study tuned no smaller rank, this one gives the rate to all of them."""
SECONDS = {16: 40, 8: 18, 5: 18, 4: 18}
"""Of a test by its rank, measured before the plan was made; a run of tuning takes as rank 8."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The runs of the study: tuning first, then seed after seed all tasks.

    Attributes:
        tasks: keys of TRIES.
        seeds: the seeds of the tests.
        second: the results of the second study, which has tuned rank 6 and run ranks 8 and 4.
    """

    tasks: tuple[str, ...] = (*TEXTS, WORDS)
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    second: Path = SECOND / "results.jsonl"

    def jobs(self, outcomes: Outcomes) -> Iterator[Job]:
        """Yield all runs; the caller adds the outcome of each before it asks for the next."""
        for task in self.tasks:
            for rank in (WHOLE,) if task in TEXTS else (WHOLE, TUNED_RANK):
                yield from tries(task, rank)
        for seed in self.seeds:
            for task in self.tasks:
                yield from (self.test(task, rank, seed, outcomes) for rank in (WHOLE, *PARTS))

    def test(self, task: str, rank: int, seed: int, outcomes: Outcomes) -> Job:
        """Return the test of a rank with the learning rate that tuning found."""
        return Job(task, "test", rank, self.rate(task, rank, outcomes), seed)

    def rate(self, task: str, rank: int, outcomes: Outcomes) -> float:
        """Return the learning rate with the lowest loss.

        Raises:
            KeyError: a run of the tuning has no outcome yet.
            RuntimeError: the same of the second study.
        """
        if task in TEXTS and rank != WHOLE:
            block = next(each for each in runs.Plan().blocks if each.task == task)
            return runs.best_try(block, "lora6", second_study.Outcomes(self.second))[0]
        tuned = tries(task, WHOLE if rank == WHOLE else TUNED_RANK)
        return min(tuned, key=lambda each: outcomes[each].loss).learning_rate

    def ran_before(self, job: Job, outcomes: Outcomes) -> Outcome | None:
        """Return the outcome that the second study has of a run, from the same pretrained model."""
        arm = f"lora{job.rank}"
        same = runs.Job(job.task, TEXT_STEPS, job.stage, arm, job.learning_rate, SCALE, job.seed)
        held = second_study.Outcomes(self.second)
        if job.stage != "test" or job.task not in TEXTS or same not in held:
            return None
        found = held[same]
        if found.base != outcomes[self.test(job.task, WHOLE, job.seed, outcomes)].base:
            return None
        return Outcome(job, found.loss, 0.0, found.base, found.machine)


def tries(task: str, rank: int) -> list[Job]:
    """Return the tuning of a rank."""
    return [Job(task, "tune", rank, rate, TUNING_SEED) for rate in TRIES[task]]


def run_all(plan: Plan, outcomes: Outcomes, cache: Path) -> None:
    """Run what has no outcome yet."""
    from cut_runs import run
    from texts import split, units

    texts: dict[str, Text] = {}
    for job in plan.jobs(outcomes):
        if job in outcomes:
            continue
        found = plan.ran_before(job, outcomes)
        if found is None:
            print(job, file=sys.stderr, flush=True)
            task = TASKS.get(job.task)
            for name in {task.source, task.target} - texts.keys() if task else ():
                texts[name] = split(units(name, cache))
            found = run(job, texts, cache)
        outcomes.add(found)


def describe(plan: Plan, outcomes: Outcomes) -> str:
    """Return how many runs there are, how many are done, and what all take."""
    tuning = sum(len(TRIES[task]) * (1 if task in TEXTS else 2) for task in plan.tasks)
    total = tuning + len(plan.seeds) * len(plan.tasks) * len(SECONDS)
    seconds = tuning * SECONDS[8] + len(plan.seeds) * len(plan.tasks) * sum(SECONDS.values())
    spent = sum(each.cpu_seconds for each in outcomes)
    return (
        f"{total} runs, {len(plan.seeds)} seeds: about {seconds / 60:.0f} minutes of one "
        "processor, fewer where the second study has ranks 8 and 4. "
        f"{len(outcomes)} are done, in {spent / 60:.0f} minutes."
    )


def main(arguments: Sequence[str]) -> None:
    """Run what is missing of the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of JSON lines")
    parser.add_argument("--second", type=Path, default=Plan().second, help="that of study two")
    parser.add_argument("--cache", type=Path, help="folder of wheels and pretrained models")
    parser.add_argument("--plan", action="store_true", help="print what would run, run nothing")
    options = parser.parse_args(arguments)
    plan, outcomes = Plan(second=options.second), Outcomes(options.results)
    if options.plan:
        print(describe(plan, outcomes))
        return
    import torch
    from texts import CACHE

    torch.set_num_threads(1)
    run_all(plan, outcomes, options.cache or CACHE)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (AdaLoraError, OSError, ValueError) as error:
        sys.exit(f"cut_study: {error}")
    except KeyboardInterrupt:
        sys.exit("cut_study: interrupted; the same command goes on with this run")
