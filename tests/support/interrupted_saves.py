"""Saves that are killed: at every call that changes a file, and in the middle of every write.

    python interrupted_saves.py SCENARIO FOLDER

writes `FOLDER/old`, the folder before the save (if it is not there), `FOLDER/new`, after the whole
save, and one folder for each call at which the save was killed. The process forks for every save,
so that the libraries are loaded once.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adalora_runs import make, train
from edited_states import SCHEDULE
from toy_models import two_layer

KILLED = 77
CALLS = (
    *("chmod", "chown", "fchmod", "fsync", "ftruncate", "link", "mkdir", "open", "remove"),
    *("rename", "replace", "rmdir", "symlink", "truncate", "unlink", "write"),
)
"""Functions of `os` that create, write, truncate, sync, rename, link or delete."""

Save = "Callable[[Path], Any]"


# --- what is saved --------------------------------------------------------------------------------


def saved(stop: int, library: str = "adalora_core", **changes: Any) -> Save:
    """Return the save of a run that has made `stop` steps."""
    model = make(library, two_layer(), **{**SCHEDULE, **changes})
    train(model, range(stop))
    options = {"save_training_state": True} if library == "adalora_core" and stop == 0 else {}
    return lambda folder: model.save_pretrained(folder, **options)


def two_adapters(stop: int) -> Save:
    """Return the save of a run with a frozen adapter beside the one that is trained."""
    model = make("attached", two_layer(), **SCHEDULE)
    config = model.peft_config["default"].__class__(**SCHEDULE, inference_mode=True)
    model.add_adapter("other", config)
    train(model, range(stop))
    return model.save_pretrained


def untrained(alpha: int, *, with_state: bool) -> Save:
    """Return a save whose weights do not depend on `alpha`."""
    import torch

    torch.manual_seed(1)
    model = make("adalora_core", two_layer(), **SCHEDULE, lora_alpha=alpha)
    return lambda folder: model.save_pretrained(folder, save_training_state=with_state)


def exported(stop: int) -> Save:
    """Return the export of a run as LoRA."""
    model = make("adalora_core", two_layer(), **SCHEDULE)
    train(model, range(stop))
    return model.export_lora


WHOLE = SCHEDULE["total_step"]
SCENARIOS: dict[str, tuple[Callable[[], Save] | None, Callable[[], Save]]] = {
    "fresh to unfinished": (None, lambda: saved(21)),
    "fresh to finished": (None, lambda: saved(WHOLE)),
    "unfinished to unfinished": (lambda: saved(21), lambda: saved(26)),
    "warm-up to another alpha": (lambda: saved(5), lambda: saved(6, lora_alpha=4)),
    "unfinished to finished": (lambda: saved(21), lambda: saved(WHOLE)),
    "finished to unfinished": (lambda: saved(WHOLE), lambda: saved(21, lora_alpha=4)),
    "finished to another alpha": (lambda: saved(WHOLE), lambda: saved(WHOLE, lora_alpha=4)),
    "the same again": (lambda: saved(21), lambda: saved(21)),
    "equal weights": (lambda: untrained(8, with_state=True), lambda: untrained(4, with_state=True)),
    "equal weights without a state": (
        lambda: untrained(8, with_state=False),
        lambda: untrained(4, with_state=False),
    ),
    "two adapters": (lambda: two_adapters(21), lambda: two_adapters(26)),
    "bridged": (lambda: saved(21, "attached"), lambda: saved(26, "attached")),
    "bridged to another alpha": (
        lambda: saved(21, "attached"),
        lambda: saved(WHOLE, "attached", lora_alpha=4),
    ),
    "fresh to bridged": (None, lambda: saved(21, "attached")),
    "export to export": (lambda: exported(WHOLE), lambda: exported(30)),
}


# --- killing --------------------------------------------------------------------------------------


class Deaths:
    """Counts the calls that change files, and ends the process at one of them.

    Args:
        at: number of the call; None lets all pass.
        torn: write half of what the call would write, before the end.
    """

    def __init__(self, at: int | None, *, torn: bool = False) -> None:
        self.at = at
        self.torn = torn
        self.names: list[str] = []

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function` with a death in front of it."""

        def call(*arguments: Any, **options: Any) -> Any:
            if self._changes(name, arguments, options):
                if len(self.names) == self.at:
                    if self.torn:
                        content = bytes(arguments[1])
                        function(arguments[0], content[: len(content) // 2])
                    os._exit(KILLED)
                self.names.append(name)
            return function(*arguments, **options)

        return call

    @staticmethod
    def _changes(name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
        if name == "open":
            return bool(arguments[1] & os.O_CREAT)
        if name == "open a file":
            mode = str(options.get("mode", arguments[1] if len(arguments) > 1 else "r"))
            return bool(set("wxa+") & set(mode))
        return True

    def watch(self) -> None:
        """Watch this process, for ever."""
        for name in CALLS:
            setattr(os, name, self.watched(name, getattr(os, name)))
        for module in (builtins, io):
            module.open = self.watched("open a file", module.open)  # type: ignore[attr-defined]
        with contextlib.suppress(ImportError):
            from peft import peft_model

            peft_model.safe_save_file = self.watched("save_file", peft_model.safe_save_file)


def in_child(work: Callable[[], None]) -> int:
    """Do `work` in a child, and return how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the parent reports it
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(save: Save, folder: Path, at: int | None, *, torn: bool = False) -> list[str]:
    """Save in a child that dies, and return the calls that it made if it lives."""
    report = folder.parent / "calls.json"

    def work() -> None:
        deaths = Deaths(at, torn=torn)
        write_report = report.write_text
        dump = json.dumps
        deaths.watch()
        save(folder)
        names = dump(deaths.names)
        deaths.at = None
        write_report(names)

    code = in_child(work)
    assert code == (0 if at is None else KILLED), (folder, code)
    return json.loads(report.read_text()) if at is None else []


def copies(old: Path, folder: Path) -> Path:
    """Return `folder` with the content of `old`."""
    if old.is_dir():
        shutil.copytree(old, folder)
    return folder


def main(name: str, root: Path) -> None:
    """Kill the save of a scenario everywhere; the folder before it may be there already."""
    before, after = SCENARIOS[name]
    old = root / "old"
    if before is not None and not old.exists():
        before()(old)
    save = after()
    calls = killed(save, copies(old, root / "new"), None)
    for number, call in enumerate(calls):
        killed(save, copies(old, root / f"{number:03d} {call}"), number)
        if call == "write":
            killed(save, copies(old, root / f"{number:03d} torn"), number, torn=True)
    (root / "calls.json").write_text(json.dumps(calls))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
