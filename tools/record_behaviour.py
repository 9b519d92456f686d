"""Record what a user sees, to compare it byte for byte before and after a change of structure.

    python tools/record_behaviour.py inputs FOLDER        # once: files that a check reads
    python tools/record_behaviour.py record FOLDER OUT    # with each state of the package
    diff -r OUT_BEFORE OUT_AFTER

Recorded are the reports of every corpus, nasty input and bad example of a rule, in every format,
and the files after `--fix --unsafe-fixes`; the help of every command, the text of every rule and
the schemas; and the files that a small training saves through each door.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORMATS = ("full", "concise", "json", "sarif", "github", "gitlab")
COMMANDS = (
    "check", "rule", "explain", "plan", "schema", "server", "env", "report", "export-lora",
    "demo",
)  # fmt: skip


def write_inputs(folder: Path) -> None:
    """Write the corpora, the nasty inputs and the bad examples of the rules as files."""
    sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]
    from contract_corpus import CORPUS, write_entry
    from nasty_inputs import NASTY

    from adalora_core.checker.rules import RULES

    for name in ("corpus", "nasty", "examples"):
        (folder / name).mkdir(parents=True)
    for entry in CORPUS:
        write_entry(entry, folder / "corpus")
    for number, case in enumerate(NASTY):
        name = f"{number:03}-{case.family}-{case.name}.{case.format}"
        (folder / "nasty" / name).write_bytes(case.content)
    suffixes = {"python": "py"}
    for rule in RULES:
        for kind in ("bad", "good"):
            example = getattr(rule, kind)
            text = example if isinstance(example, str) else json.dumps(example, indent=2)
            suffix = suffixes.get(rule.language, rule.language)
            path = folder / "examples" / f"{rule.code}-{kind}.{suffix}"
            path.write_text(text, encoding="utf-8")
    for name in ("corpus_later", "corpus_lora", "corpus_strangers"):
        shutil.copytree(ROOT / "tests" / "usage" / name, folder / f"usage-{name}")
    shutil.copytree(ROOT / "tests" / "scripts", folder / "scripts")


def record(inputs: Path, out: Path) -> None:
    """Write what the commands print for the inputs, and the saved files of a small training."""
    out.mkdir(parents=True)
    _record_texts(out / "texts")
    for folder in sorted(inputs.iterdir()):
        for runtime in ("peft", "adalora-core"):
            place = out / "reports" / folder.name / runtime
            place.mkdir(parents=True)
            for each in FORMATS:
                _write(place / each, [*_CHECK, ".", "--runtime", runtime, "-o", each], folder)
        fixed = out / "fixed" / folder.name
        shutil.copytree(folder, fixed)
        _write(out / f"fixed-{folder.name}", [*_CHECK, ".", "--fix", "--unsafe-fixes"], fixed)
    with contextlib.chdir(out):
        _train(Path("saved"))


_CHECK = (
    "check", "--isolated", "--all-files", "--strict-keys", "--limit", "diagnostics=100000",
    "--allow-empty",
)  # fmt: skip


def _record_texts(out: Path) -> None:
    from adalora_core.checker.rules import RULES

    out.mkdir()
    _write(out / "help", ["--help"], out)
    for command in COMMANDS:
        _write(out / f"help-{command}", [command, "--help"], out)
    _write(out / "rules", ["rule"], out)
    for rule in RULES:
        _write(out / rule.code, ["rule", rule.code], out)
    for schema in sorted((ROOT / "schemas").glob("*.json")):
        shutil.copy(schema, out)


def _run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "adalora_core", *arguments]
    return subprocess.run(  # noqa: S603 - our own command
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def _write(path: Path, arguments: list[str], folder: Path) -> None:
    done = _run(arguments, folder)
    text = f"{done.stdout}\n--- errors\n{done.stderr}\n--- exit code {done.returncode}\n"
    path.write_text(text, encoding="utf-8")


def _train(out: Path) -> None:
    """Train a small model through each door, and save it at a step of each phase."""
    import torch

    import adalora_core
    import adalora_core.peft

    doors = {
        "own": (adalora_core.AdaLoraConfig, adalora_core.get_peft_model),
        "import": (adalora_core.peft.AdaLoraConfig, adalora_core.peft.get_peft_model),
    }
    torch.set_num_threads(1)
    for door, (config_class, wrap) in doors.items():
        for start in (True, "lora"):
            torch.manual_seed(0)
            model = torch.nn.Sequential(
                torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)
            )
            config = config_class(
                total_step=12, tinit=2, tfinal=4, deltaT=1, init_r=4, target_r=2,
                init_lora_weights=start, target_modules=["0"], modules_to_save=["2"],
            )  # fmt: skip
            with contextlib.redirect_stderr(io.StringIO()):
                _run_steps(wrap(model, config), out / f"{door}-{start}")


def _run_steps(model: object, out: Path) -> None:
    import torch

    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for step in range(1, 13):
        inputs = torch.randn(16, 8)
        loss = torch.nn.functional.mse_loss(model(inputs), inputs[:, :4])
        loss.backward()
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        if step in {1, 5, 12}:
            model.save_pretrained(str(out / f"step-{step}"))


def main() -> None:
    """Write inputs, or record what the package does with them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=["inputs", "record"])
    parser.add_argument("folders", nargs="+", type=Path)
    options = parser.parse_args()
    folders = [each.absolute() for each in options.folders]
    if options.action == "inputs":
        write_inputs(*folders)
    else:
        record(*folders)


if __name__ == "__main__":
    main()
