"""Compare LoRA and AdaLoRA at the same budget, on sentences that people rated.

    python benchmarks/studies/allocation/study.py                 # the study of docs/evidence.md
    python benchmarks/studies/allocation/study.py --plan          # what it runs and what is missing
    python tools/regenerate.py evidence                           # the page, from the results

Each run is added to the results as it ends. Stopped at any moment, the same command goes on with
the run that was interrupted. A run takes about half a minute on one thread.
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
sys.path.insert(0, str(Path(__file__).parent))

from jobs import SHUFFLED, Job, Plan, Setting
from results import Results
from sentences import MEMBERS, read, sdist, split

from adalora_core.demo.data import REQUIRED, package_folder
from adalora_core.floor.errors import AdaLoraError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RESULTS = Path(__file__).with_name("results.jsonl")
SHORT = Setting(steps=60)


def short_jobs() -> list[Job]:
    """Return the runs of the short form: AdaLoRA and its broken twin, two seeds, no tuning."""
    return [
        Job(SHORT.name, "products", "test", arm, 3e-3, 2.0, seed)
        for seed in (1, 2)
        for arm in ("sensitivity", SHUFFLED)
    ]


def run_all(
    jobs: Iterable[Job], total: int, setting: Setting, plan: Plan, results: Results, archive: Path
) -> None:
    """Run the jobs that have no outcome yet, and add each outcome as it comes."""
    from tqdm import tqdm
    from training import run

    sentences = {}
    with tqdm(total=total, unit="run", smoothing=0.1) as bar:
        for job in jobs:
            if job not in results:
                bar.set_postfix_str(f"{job.data}, {job.stage}, {job.arm}, seed {job.seed}")
                if job.data not in sentences:
                    sentences[job.data] = read(job.data, archive)
                parts = split(sentences[job.data], job.seed)
                held_out = parts.test if job.stage in {"test", "again"} else parts.development
                outcome = run(job, setting, parts.train, held_out, plan.ranks(job, results))
                results.add(outcome)
            bar.update()


def main(arguments: Sequence[str]) -> None:
    """Run what is missing of the study."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.seeds < 2:
        parser.error(f"argument --seeds: expected at least 2, got {options.seeds}")
    if options.model and not options.model.is_dir():
        parser.error(f"argument --model: expected a folder, got {str(options.model)!r}")
    results = Results(options.results)
    setting = SHORT if options.short else Setting(model=options.model, steps=options.steps)
    plan = Plan(setting, tuple(options.data), options.seeds)
    if options.plan:
        print(describe(plan, results))
        return
    for name in REQUIRED:
        package_folder(name)
    import torch

    torch.set_num_threads(options.threads)
    archive = options.sdist or sdist()
    if options.short:
        jobs = short_jobs()
        run_all(jobs, len(jobs), setting, plan, results, archive)
    else:
        run_all(plan.jobs(results), len(plan), setting, plan, results, archive)


def describe(plan: Plan, results: Results) -> str:
    """Return how many runs there are, how many are done, and what the rest will take."""
    done = [each for each in results if each.job in plan]
    missing = len(plan) - len(done)
    text = f"{plan.setting.name}\n{len(plan)} runs on {', '.join(plan.data)}: {len(done)} done"
    if done:
        mean = sum(each.cpu_seconds for each in done) / len(done)
        text += f", {missing} missing, about {missing * mean / 60:.0f} minutes of one processor"
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", nargs="+", choices=MEMBERS, default=["products", "tweets"], metavar="SET",
        help=f"sets of sentences, of {', '.join(MEMBERS)} (default: products tweets)",
    )  # fmt: skip
    parser.add_argument("--model", type=Path, help="folder of another BERT-like encoder")
    parser.add_argument("--steps", type=int, default=Setting().steps, help="of each run")
    parser.add_argument("--seeds", type=int, default=5, help="test runs of an arm (default: 5)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of JSON lines")
    parser.add_argument("--sdist", type=Path, help="the sdist, where pip cannot fetch it")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: 1)")
    parser.add_argument("--plan", action="store_true", help="print what would run, run nothing")
    parser.add_argument("--short", action="store_true", help="run the short form of the tests")
    return parser


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (AdaLoraError, OSError, ValueError) as error:
        sys.exit(f"study: {error}")
    except KeyboardInterrupt:
        sys.exit("study: interrupted; the same command goes on with this run")
