"""Run one script of tests/scripts under PEFT, and with the import of this package.

A run is a process forked from a server that has imported torch, transformers and PEFT once, in an
empty folder. A script leaves its results in a variable `outcome`: plain values by name.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import shutil
import tempfile
import traceback
import warnings
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

Outcome = dict[str, Any]
FOLDER = Path(__file__).parents[1] / "scripts"
LONGEST_RUN = 300
RUN_RULE = re.compile(r"ADA8\d\d")
PRELOADED = [
    "peft",
    "transformers.trainer_seq2seq",
    *(
        f"transformers.models.{name}.modeling_{name}"
        for name in ("auto", "bart", "bert", "llama", "whisper")
    ),
    "bitsandbytes",
    "datasets",
    "trl.trainer.sft_trainer",
    "adalora_core.allocation",
    "adalora_core.config.model",
    "adalora_core.nn",
]
"""What the server imports; of this package, only what knows nothing of PEFT."""


def script_names() -> list[str]:
    """Return the names of the scripts."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("test_"))


def source(name: str) -> str:
    """Return the text of a script."""
    return (FOLDER / f"{name}.py").read_text("utf-8")


def with_changed_import(text: str) -> str:
    """Import PEFT's names from the bridge."""
    return re.sub(r"^from peft\b", "from adalora_core.peft", text, flags=re.MULTILINE)


def run(name: str, *, is_changed: bool) -> Outcome:
    """Run a script and return its outcome; `error` and `output` if it raised.

    Args:
        name: of the script, without `.py`.
        is_changed: whether PEFT's names come from the bridge.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run_in_empty_folder, args=(name, is_changed, sender))
    process.start()
    sender.close()
    try:
        if not receiver.poll(LONGEST_RUN):
            process.kill()
            return {"error": f"no end after {LONGEST_RUN} s", "output": ""}
        return receiver.recv()  # type: ignore[no-any-return] # what the process below sends
    except EOFError:
        return {"error": "the process ended without an outcome", "output": ""}
    finally:
        process.join()


def _run_in_empty_folder(name: str, is_changed: bool, sender: Connection) -> None:
    folder = tempfile.mkdtemp(prefix=f"script-{name}-")
    os.chdir(folder)
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        outcome = _execute(name, is_changed)
    if "error" in outcome:
        outcome["output"] = printed.getvalue()[-4000:] + outcome["output"]
    sender.send(outcome)
    shutil.rmtree(folder, ignore_errors=True)


def _execute(name: str, is_changed: bool) -> Outcome:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    space: dict[str, Any] = {"__name__": "__main__"}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            text = with_changed_import(source(name)) if is_changed else source(name)
            exec(compile(text, f"{name}.py", "exec"), space)  # noqa: S102
    except BaseException as error:  # noqa: BLE001 - the judge sees any failure
        return {
            "error": f"{type(error).__name__}: {' '.join(str(error).split())}",
            "output": traceback.format_exc(),
        }
    found = [RUN_RULE.match(str(warning.message)) for warning in caught]
    return {**space["outcome"], "reported": sorted({code[0] for code in found if code})}
