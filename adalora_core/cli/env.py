"""`adalora env`: what is installed, which backends there are, and why one is missing."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING

from adalora_core.cli.exit_codes import CANNOT_RUN, FINE
from adalora_core.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGES = ("torch", "peft", "transformers", "safetensors", "pydantic")
LABEL_WIDTH = 14


def run(argv: Sequence[str]) -> int:
    """Print the environment; 0 if all works or there is no torch, 2 if the core is broken."""
    parser = argparse.ArgumentParser(
        prog="adalora env", description="Print versions, backends and why a backend is missing."
    )
    parser.parse_args(argv)
    backend, exit_code = _cpu_backend()
    lines = {
        "adalora-core": _version("adalora-core"),
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        **{name: _version(name) for name in PACKAGES},
        "CPU backend": backend,
        "CUDA backend": "none: this build has no CUDA kernels; CUDA tensors use the reference",
    }
    for label, value in lines.items():
        print(f"{label:<{LABEL_WIDTH}} {value}")
    return exit_code


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu_backend() -> tuple[str, int]:
    """Return one line about the compiled core, and the exit code that it means."""
    if importlib.util.find_spec("torch") is None:
        return f"{_core_alone()}; its ops need torch: pip install 'adalora-core[torch]'", FINE
    try:
        backend = importlib.import_module("adalora_core.ops._backend")
    except BackendUnavailableError as error:
        return f"missing: {error}", CANNOT_RUN
    if not backend.HAS_CORE:
        return "none: installed with ADALORA_NATIVE=OFF; the reference in torch serves", FINE
    threads = backend.core.thread_count()
    plural = "thread" if threads == 1 else "threads"
    return f"compiled, {_instruction_set(backend.core.isa_name())}, {threads} {plural}", FINE


def _core_alone() -> str:
    """Describe the compiled core where torch is not installed."""
    try:
        core = importlib.import_module("adalora_core._cpu")
        return f"compiled, {_instruction_set(core.isa_name())}"
    except (ImportError, ValueError) as error:
        return f"none ({error})"


def _instruction_set(name: str) -> str:
    forced = os.environ.get("ADALORA_CORE_ISA")
    return f"instruction set {name}" + (" (ADALORA_CORE_ISA)" if forced else "")
