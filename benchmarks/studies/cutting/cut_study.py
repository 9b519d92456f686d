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
from pathlib import Path
from typing import TYPE_CHECKING

# Set before torch and transformers are loaded: all files are local, and idle threads must not spin.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "rank_matters"), str(HERE.parent / "allocation")]

from cut_plan import RESULTS, SECOND, Outcomes, Plan, describe
from tasks import TASKS

from adalora_core.floor.errors import AdaLoraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from texts import Text


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


def main(arguments: Sequence[str]) -> None:
    """Run what is missing of the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of JSON lines")
    parser.add_argument("--second", type=Path, default=SECOND, help="that of study two")
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
