"""Compare LoRA and AdaLoRA at equal parameters, where rank matters.

    python benchmarks/studies/rank_matters/rank_study.py          # the study of docs/evidence.md
    python benchmarks/studies/rank_matters/rank_study.py --plan   # what it runs and what is missing
    python tools/regenerate.py rank-study                         # the page, from the results

Each run is added to the results as it ends. Stopped at any moment, the same command goes on with
the run that was interrupted. The study stops by itself at 12 hours of processor time.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

# Set before torch and transformers are loaded: all files are local, and idle threads must not spin.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "allocation")]

from outcomes import Outcomes
from runs import Plan
from tasks import HOURS, SIZES, TASKS, Block

from adalora_core.floor.errors import AdaLoraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runs import Job, Outcome
    from texts import Text

RESULTS = HERE / "results.jsonl"
SHORT_RESULTS = HERE.parents[2] / "build" / "rank-matters-study" / "short.jsonl"
SHORT = Plan(
    (Block("short", 60, ("lora1", "lora8", "wide", "even", "broken"), given=(0.04, 2.0)),),
    seeds=range(1, 3),
)
"""The short form: tiny models of this repository's own text, in seconds."""
SECONDS_OF_STEP = {"small": 0.045, "large": 0.125, "tiny": 0.006, "": 0.25}
"""Measured before the plan was made, on two busy cores of an AMD EPYC."""
SECONDS_BESIDE = {"small": 2.5, "large": 6.5, "tiny": 1.0, "": 6.0}


class Study:
    """Runs the jobs of a plan that have no outcome yet.

    Args:
        plan: the blocks.
        outcomes: what is there, and where new outcomes go.
        cache: the folder of wheels and pretrained models.
    """

    def __init__(self, plan: Plan, outcomes: Outcomes, cache: Path) -> None:
        self.plan, self.outcomes, self.cache = plan, outcomes, cache
        self.texts: dict[str, Text] = {}

    def run(self, hours: float) -> None:
        """Run what is missing, until the outcomes together took so many hours."""
        from tqdm import tqdm

        blocks = {(each.task, each.steps, arm): each for each in self.plan.blocks
                  for arm in (*each.only_tuned, *each.arms)}  # fmt: skip
        total = sum(count for *_, count in self.plan.counts())
        with tqdm(total=total, unit="run", smoothing=0.1, mininterval=30) as bar:
            for job in self.plan.jobs(self.outcomes):
                if job not in self.outcomes:
                    if spent(self.outcomes) > 3600 * hours:
                        print(f"{hours:g} hours are spent; the rest is left out", file=sys.stderr)
                        return
                    bar.set_postfix_str(f"{job.task}, {job.stage}, {job.arm}, seed {job.seed}")
                    block = blocks.get((job.task, job.steps, job.arm))
                    self.outcomes.add(self.outcome(job, block))
                bar.update()

    def outcome(self, job: Job, block: Block | None) -> Outcome:
        """Run one job."""
        if block is None:
            from causal_runs import run_base

            return run_base(job, self._texts(job.task), self.cache)
        task = TASKS[job.task]
        if task.on_encoder:
            import encoder_runs

            return encoder_runs.run(job, block, self.outcomes)
        import causal_runs

        texts = self._texts(task.source, task.target)
        return causal_runs.run(job, block, self.outcomes, texts, self.cache)

    def _texts(self, *names: str) -> dict[str, Text]:
        from texts import split, units

        for name in names:
            if name not in self.texts:
                self.texts[name] = split(units(name, self.cache))
        return self.texts


def spent(outcomes: Outcomes) -> float:
    """Return the processor seconds of all outcomes."""
    return sum(each.cpu_seconds for each in outcomes)


def expected_seconds(block: Block, stage: str) -> float:
    """Return what a run is expected to take."""
    size = TASKS[block.task].size
    # A batch of the pretraining is twice as large, and all weights have gradients.
    steps = 2.5 * SIZES[size].base_steps if stage == "base" else block.steps
    return steps * SECONDS_OF_STEP[size] + SECONDS_BESIDE[size]


def describe(plan: Plan, outcomes: Outcomes) -> str:
    """Return the runs of each block, how many are done, and what the rest will take."""
    done: dict[tuple[str, str, int, str], int] = defaultdict(int)
    for each in outcomes:
        job = each.job
        done[job.stage, job.task, job.steps, job.arm] += 1
    lines, runs, ready, seconds, missing = [], 0, 0, 0.0, 0.0
    for block in plan.blocks:
        counts = [each for each in plan.counts() if each[0] is block]
        of_block = block_done = 0
        block_seconds = 0.0
        for _, stage, arm, count in counts:
            have = _done(done, block, stage, arm)
            block_done, of_block = block_done + have, of_block + count
            block_seconds += count * expected_seconds(block, stage)
            missing += (count - have) * expected_seconds(block, stage)
        lines.append(
            f"{TASKS[block.task].label}, {block.steps} steps: {of_block} runs of "
            f"{len(block.arms)} arms, {block_done} done, about {block_seconds / 3600:.1f} hours"
        )
        runs, ready, seconds = runs + of_block, ready + block_done, seconds + block_seconds
    total = (
        f"{runs} runs, {len(plan.seeds)} seeds: about {seconds / 3600:.1f} hours of one processor. "
        f"{ready} are done, in {spent(outcomes) / 3600:.1f} hours; the rest takes about "
        f"{missing / 3600:.1f}."
    )
    return "\n".join([*lines, total])


def _done(done: dict[tuple[str, str, int, str], int], block: Block, stage: str, arm: str) -> int:
    if stage != "base":
        return done[stage, block.task, block.steps, arm]
    task = TASKS[block.task]
    return done[stage, task.source, SIZES[task.size].base_steps, task.size]


def main(arguments: Sequence[str]) -> None:
    """Run what is missing of the study."""
    options = _parser().parse_args(arguments)
    plan = SHORT if options.short else Plan()
    results = options.results or (SHORT_RESULTS if options.short else RESULTS)
    outcomes = Outcomes(results)
    if options.plan:
        print(describe(plan, outcomes))
        return
    import torch
    from texts import CACHE

    torch.set_num_threads(options.threads)
    Study(plan, outcomes, options.cache or CACHE).run(options.hours)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, help="file of JSON lines")
    parser.add_argument("--cache", type=Path, help="folder of wheels and pretrained models")
    parser.add_argument("--hours", type=float, default=HOURS, help=f"stop then ({HOURS:g})")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--plan", action="store_true", help="print what would run, run nothing")
    parser.add_argument("--short", action="store_true", help="run the short form of the tests")
    return parser


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (AdaLoraError, OSError, ValueError) as error:
        sys.exit(f"rank_study: {error}")
    except KeyboardInterrupt:
        sys.exit("rank_study: interrupted; the same command goes on with this run")
