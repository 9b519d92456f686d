"""Run `adalora demo`: fine-tune a sentence encoder on real ratings and reload it with PEFT."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.commands.cli.output import FINDINGS, FINE, INTERRUPTED, fail
from adalora_core.commands.injection import quiet
from adalora_core.floor.errors import AdaLoraError

if TYPE_CHECKING:
    from adalora_core.demo.output import Outcome


def run(argv: Sequence[str]) -> int:
    """Run `adalora demo`; 0 success, 1 a wrong result, 2 could not run, 130 interrupted."""
    arguments = make_parser().parse_args(argv)
    # Model and data come with installed packages; no network may be used.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Set before torch is loaded: otherwise its idle threads spin, and on a machine with other load
    # training takes twenty times as long (132 s instead of 6 s for --quick).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        return _run(arguments.output, quick=arguments.quick)
    except KeyboardInterrupt:
        fail("demo", "interrupted; nothing was written")
        return INTERRUPTED
    except (AdaLoraError, OSError, ValueError) as error:
        return fail("demo", error)


def _run(output: Path, *, quick: bool) -> int:
    from adalora_core.demo.data import REQUIRED, package_folder

    for name in REQUIRED:
        package_folder(name)
    with quiet():
        import peft  # noqa: F401 - imported later, by the parts that use it

        from adalora_core.demo.experiment import run_experiment
    from adalora_core.demo.settings import FULL, QUICK

    outcome = run_experiment(QUICK if quick else FULL, output)
    _print_summary(outcome, output, quick=quick)
    faults = outcome.faults()
    for fault in faults:
        fail("demo", fault)
    return FINDINGS if faults else FINE


def _print_summary(outcome: Outcome, output: Path, *, quick: bool) -> None:
    from adalora_core.demo.output import RESULTS

    schedule = outcome.plan.schedule
    print(
        f"adapted {outcome.adapted_accuracy:.1%} of the held-out words, after "
        f"{outcome.training_seconds:.0f} s of training"
        f"{', too short to help: leave out --quick' if quick else ''}\n"
        f"ranks   sum {outcome.rank_sum} of {schedule.initial_budget}, target "
        f"{outcome.settings.target_r} x {len(outcome.ranks)} = {schedule.target_budget}\n"
        f"PEFT    reloads the adapter; largest prediction difference "
        f"{outcome.prediction_difference:.1e}\n"
        f"wrote   " + ", ".join(str(output / name) for name in RESULTS)
    )


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of `adalora demo`."""
    parser = argparse.ArgumentParser(
        prog="adalora demo",
        description="Fine-tune a real sentence encoder with AdaLoRA on words that people rated as "
        "positive or negative. Takes two minutes on two cores and uses no network.",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("adalora-demo"),
        metavar="DIR",
        help="folder for adapter, heat map and report (default: ./adalora-demo)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="train on few words for a few seconds, as a smoke test"
    )
    return parser
