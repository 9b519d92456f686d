"""Run `adalora env`: print versions and backends, and why a backend is missing."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from adalora_core.commands.cli.arguments import Parser
from adalora_core.commands.cli.output import CANNOT_RUN, FINE, print_text
from adalora_core.floor.errors import INSTALL, BackendUnavailableError

DRIVER_OF_CUDA = {12000: "525", 12010: "530", 13000: "580"}
"""The first NVIDIA driver on Linux that supports a CUDA version (1000 * major + 10 * minor)."""

KERNEL_MODULE = Path("/proc/driver/nvidia/version")

PACKAGES = ("torch", "peft", "transformers", "safetensors", "pydantic")
LABEL_WIDTH = 14


def run(argv: Sequence[str]) -> int:
    """Print the environment; return 2 if the compiled core is broken, else 0."""
    parser = Parser(
        "Print versions and backends, and why a backend is missing.",
        {"adalora env": "for a terminal", "adalora env > env.txt": "for an issue"},
        prog="adalora env",
    )
    parser.parse_args(argv)
    backend, exit_code = _cpu_backend()
    lines = {
        "adalora-core": _version("adalora-core"),
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        **{name: _version(name) + _required(name) for name in PACKAGES},
        "CPU backend": backend,
        "CUDA backend": _cuda_backend(),
    }
    print_text("".join(f"{label:<{LABEL_WIDTH}} {value}\n" for label, value in lines.items()))
    return exit_code


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _required(distribution: str) -> str:
    """Return the versions that this package takes, such as " (>=2.10)"."""
    try:
        requirements = metadata.requires("adalora-core") or []
    except metadata.PackageNotFoundError:
        return ""
    found = (re.match(rf"{distribution}([<>=!~][^;]*)", each) for each in requirements)
    return "".join(f" ({each[1].strip()})" for each in found if each)


def _cpu_backend() -> tuple[str, int]:
    """Return one line about the compiled core, and the exit code that follows."""
    if importlib.util.find_spec("torch") is None:
        return f"{_core_alone()}; its ops need torch: {INSTALL.format('torch')}", FINE
    try:
        backend = importlib.import_module("adalora_core.ops._backend")
    except BackendUnavailableError as error:
        return f"missing: {error}", CANNOT_RUN
    if not backend.HAS_CORE:
        if backend.CHOICE:
            return f"none: ADALORA_BACKEND is {backend.CHOICE!r}", FINE
        return "none: installed with ADALORA_NATIVE=OFF; ops use the portable backend", FINE
    threads = backend.core.thread_count()
    plural = "thread" if threads == 1 else "threads"
    return f"{_compiled(backend.core)}, {threads} {plural}", FINE


def _cuda_backend() -> str:
    """Return one line about the CUDA kernels: the driver that they need, and the installed one."""
    try:
        cuda = importlib.import_module("adalora_core._cuda")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        reason = _without_kernels() if missing else str(error)
        return f"none: {reason}; CUDA tensors use the portable backend"
    needed, supported = cuda.required_driver_version(), cuda.driver_version()
    driver = DRIVER_OF_CUDA.get(needed)
    needs = f"needs a driver for CUDA {_version_text(needed)}"
    needs += f" ({driver} or newer)" if driver else ""
    found = f"{_driver()} supports CUDA {_version_text(supported)}"
    there = found if supported else "no driver is installed"
    used = "" if supported >= needed else "; CUDA tensors use the portable backend"
    version = _version_text(cuda.runtime_version())
    built = f"compiled with CUDA {version} for {_code(cuda.architectures)}"
    return f"{built}; {needs}, {there}{used}"


def _without_kernels() -> str:
    """Return why the build has no CUDA kernels, as far as it recorded that."""
    try:
        core = importlib.import_module("adalora_core._cpu")
    except ImportError:
        core = None
    # An editable install may have a core that is older than this file.
    recorded = getattr(core, "no_cuda_reason", "")
    return "this build has no CUDA kernels" + f": {recorded}" * bool(recorded) + " (docs/build.md)"


def _code(architectures: str) -> str:
    """Return "sm_80, sm_90 and PTX of compute_90" for CMake's "80-real, 90"."""
    names = architectures.split(", ")
    code = [f"sm_{each.removesuffix('-real')}" for each in names if "-virtual" not in each]
    ptx = [f"compute_{each.removesuffix('-virtual')}" for each in names if "-real" not in each]
    parts = [", ".join(code), "PTX of " + ", ".join(ptx)]
    return " and ".join(part for part, held in zip(parts, (code, ptx), strict=True) if held)


def _version_text(version: int) -> str:
    """Return "13.0" for 13000."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _driver() -> str:
    try:
        found = re.search(r"\b\d{3,}\.\d+[.\d]*", KERNEL_MODULE.read_text(encoding="utf-8"))
    except OSError:
        found = None
    return f"driver {found.group()}" if found else "the installed driver"


def _core_alone() -> str:
    """Describe the compiled core where torch is not installed."""
    try:
        return _compiled(importlib.import_module("adalora_core._cpu"))
    except (ImportError, ValueError) as error:
        return f"none ({error})"


def _compiled(core: Any) -> str:
    forced = " (ADALORA_CORE_ISA)" if os.environ.get("ADALORA_CORE_ISA") else ""
    return f"compiled, instruction set {core.isa_name()}{forced}"
