"""Compare `adalora check` with check-jsonschema, in one run, on one core.

Both check the same saved adapters: check-jsonschema against the published draft-07 schema,
`adalora check` with all its rules. Start-up is measured with one file; files per second exclude
start-up and are measured with 1,000 files. Times are CPU times, which other load on the machine
hardly changes; each is the shortest of the runs. Both keep their byte code after the first run, as
an installation does, whatever PYTHONDONTWRITEBYTECODE asks for.

    pip install check-jsonschema
    python benchmarks/bench_contract.py
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from adalora_core.config.fields.table import FIELDS
from adalora_core.config.rules.base import SOUND

FILES = 1000
RUNS = 5
SCHEMA = Path(__file__).parents[1] / "schemas" / "adalora-config.draft-07.schema.json"

TARGETS = {"cold": 0.6, "clean": 10.0, "findings": 3.0}
"""Cold start: at most this share of the other; files per second: at least these multiples."""


def saved_adapter(number: int, *, wrong: bool) -> dict[str, object]:
    """Return the file that PEFT writes for one adapter: every key, most at their defaults."""
    content = {name: field.default for name, field in FIELDS.items() if field.written}
    content |= SOUND
    content |= {
        "base_model_name_or_path": f"organisation/model-{number}",
        "peft_version": "0.21.0",
        "task_type": "CAUSAL_LM",
        "lora_dropout": 0.05,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
        "total_step": 1000 + number,
    }
    if wrong:
        content |= {"deltaT": 0, "beta1": 2}
    return dict(sorted(content.items()))


def write_files(folder: Path, suffix: str, *, wrong: bool) -> list[str]:
    """Write the files of one measurement and return their names."""
    folder.mkdir()
    names = []
    for number in range(FILES):
        path = folder / f"{number}{suffix}"
        content = saved_adapter(number, wrong=wrong)
        dump = yaml.safe_dump(content) if suffix == ".yaml" else json.dumps(content, indent=2)
        path.write_text(dump)
        names.append(str(path))
    return names


def seconds(command: list[str], names: list[str], expected: int) -> float:
    """Return the shortest CPU time of the runs, user and system."""
    kept = {"PYTHONPYCACHEPREFIX": str(Path(names[0]).parents[1] / "pycache")}
    environment = os.environ | kept
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    best = float("inf")
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(  # noqa: S603 - our own commands
            [*command, *names], capture_output=True, check=False, env=environment
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode != expected:
            raise RuntimeError(f"{command}: {done.returncode}: {done.stderr.decode()[-500:]}")
        used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        best = min(best, used)
    return best


def main() -> None:
    """Measure and print the table; exit with 1 if a target is missed."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    bin_folder = Path(sys.executable).parent
    ours = [str(bin_folder / "adalora"), "check", "--isolated"]
    theirs = [str(bin_folder / "check-jsonschema"), "--schemafile", str(SCHEMA)]
    missed = False
    print(f"{'':<24}{'adalora':>12}{'check-jsonschema':>18}{'ratio':>8}{'target':>8}")
    with tempfile.TemporaryDirectory() as root:
        for kind, wrong in (("clean", False), ("findings", True)):
            for suffix in (".json", ".yaml"):
                names = write_files(Path(root, kind + suffix), suffix, wrong=wrong)
                rates, colds = [], []
                for command in (ours, theirs):
                    cold = seconds(command, names[:1], int(wrong))
                    rest = seconds(command, names, int(wrong)) - cold
                    colds.append(cold)
                    rates.append((FILES - 1) / rest)
                if kind == "clean":
                    ratio = colds[0] / colds[1]
                    missed |= ratio > TARGETS["cold"]
                    row(
                        "cold " + suffix,
                        [f"{c * 1000:.0f} ms" for c in colds],
                        ratio,
                        TARGETS["cold"],
                    )
                ratio = rates[0] / rates[1]
                missed |= ratio < TARGETS[kind]
                row(f"{kind} {suffix}", [f"{r:.0f}/s" for r in rates], ratio, TARGETS[kind])
    sys.exit(missed)


def row(title: str, values: list[str], ratio: float, target: float) -> None:
    """Print one line of the table."""
    print(f"{title:<24}{values[0]:>12}{values[1]:>18}{ratio:>8.2f}{target:>8}")


if __name__ == "__main__":
    main()
