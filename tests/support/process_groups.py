"""Run a function in several processes that form a gloo process group, and return what each found.

The functions live in modules of this folder, since a new process has to import them. Processes
are forked from a server that has imported torch once, so that starting them takes no time.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import distributed

PRELOADED = [
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.tensor.debug",
    "adalora_core.checker",
    "adalora_core.training",
    "adalora_core.bridge",
]
PATIENCE_S = 600


def run_processes(
    world: int, function: Callable[..., Any], folder: Path, *arguments: Any
) -> list[Any]:
    """Return `function(rank, *arguments)` of every rank; a rank's failure fails the caller.

    Args:
        world: how many processes.
        function: of an importable module; its result is saved with torch.
        folder: an empty folder for the results.
        arguments: passed on.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    folder.mkdir(parents=True, exist_ok=True)
    processes = [
        context.Process(target=_work, args=(rank, world, function, folder, arguments))
        for rank in range(world)
    ]
    for process in processes:
        sys.audit("tests.rank")
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
    errors = [path.read_text() for path in sorted(folder.glob("error-*"))]
    assert not errors, "\n".join(errors)
    assert not late, f"{len(late)} of {world} processes did not end within {PATIENCE_S} s"
    return [_result(folder / f"result-{rank}") for rank in range(world)]


def leave() -> NoReturn:
    """End a script that was in a process group, without finalizing the interpreter.

    docs/scaling.md, "Aborted at the end", has the reason.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _result(path: Path) -> Any:
    # A process may be meant to die; the test knows.
    return torch.load(path, weights_only=False) if path.exists() else None


def _work(
    rank: int, world: int, function: Callable[..., Any], folder: Path, arguments: tuple[Any, ...]
) -> None:
    # Looking for wrappers goes through all objects: through those of this test, not of all imports.
    gc.freeze()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    # A rank that is done at once would close its connections while another one still connects.
    distributed.barrier()
    try:
        torch.save(function(rank, *arguments), folder / f"result-{rank}")
    except BaseException:
        (folder / f"error-{rank}").write_text(f"rank {rank}: {traceback.format_exc()}")
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
