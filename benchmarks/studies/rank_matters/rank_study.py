"""Run a study of one question on models of text, where rank matters.

    python benchmarks/studies/rank_matters/rank_study.py           # the studies, and their time
    python benchmarks/studies/rank_matters/rank_study.py places    # what is missing of one
    python tools/regenerate.py rank-study                          # the pages, from the results

Each run is added to the results as it ends. Stopped at any moment, the same command goes on with
the run that was interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# Set before torch and transformers are loaded: all files are local, and idle threads must not spin.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "allocation")]

from runs import Outcomes
from studies import SHORT, STUDIES, minutes, outcomes_of
from tasks import TASKS, Block

from adalora_core.floor.errors import AdaLoraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs import Job, Outcome, Plan
    from texts import Text


class Runner:
    """Runs the jobs of a plan that have no outcome yet.

    Args:
        plan: the blocks.
        outcomes: what is there, and where new outcomes go.
        cache: the folder of wheels and pretrained models.
    """

    def __init__(self, plan: Plan, outcomes: Outcomes, cache: Path) -> None:
        self.plan, self.outcomes, self.cache = plan, outcomes, cache
        self.texts: dict[str, Text] = {}

    def run(self) -> None:
        """Run what is missing."""
        blocks = {(each.task, each.steps, arm): each for each in self.plan.blocks
                  for arm in (*each.only_tuned, *each.arms)}  # fmt: skip
        for job in self.plan.jobs(self.outcomes):
            if job not in self.outcomes:
                print(f"{job.task}, {job.stage}, {job.arm}, seed {job.seed}", flush=True)
                self.outcomes.add(self.outcome(job, blocks.get((job.task, job.steps, job.arm))))

    def outcome(self, job: Job, block: Block | None) -> Outcome:
        """Run one job; a pretraining has no block."""
        import causal_runs

        if block is None:
            return causal_runs.run_base(job, self._texts(job.task), self.cache)
        task = TASKS[job.task]
        texts = self._texts(task.source, task.target)
        return causal_runs.run(job, block, self.outcomes, texts, self.cache)

    def _texts(self, *names: str) -> dict[str, Text]:
        from texts import split, units

        for name in names:
            if name not in self.texts:
                self.texts[name] = split(units(name, self.cache))
        return self.texts


def main(arguments: Sequence[str]) -> None:
    """Run what is missing of a study, or show which there are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", choices=[*STUDIES, "short"])
    parser.add_argument("--results", type=Path, help="file of JSON lines")
    parser.add_argument("--cache", type=Path, help="folder of wheels and pretrained models")
    options = parser.parse_args(arguments)
    if options.study is None:
        for name, each in STUDIES.items():
            print(f"{name}: {each.question} (about {minutes(each):.0f} minutes of one processor)")
        return
    import torch
    from texts import CACHE

    torch.set_num_threads(1)
    cache = options.cache or CACHE
    if options.study == "short":
        plan, outcomes = SHORT, Outcomes(options.results or cache / "short.jsonl")
    else:
        plan, outcomes = STUDIES[options.study].plan, outcomes_of(options.study)
    Runner(plan, outcomes, cache).run()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (AdaLoraError, OSError, ValueError) as error:
        sys.exit(f"rank_study: {error}")
    except KeyboardInterrupt:
        sys.exit("rank_study: interrupted; the same command goes on with this run")
