"""Run `adalora rule`, `explain`, `schema` and `env`: print rules, schemas and versions."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from adalora_core.commands.cli.console import (
    BOUND,
    CANNOT_RUN,
    FINDINGS,
    FINE,
    Parser,
    choice,
    fail,
    flag,
    print_text,
    text,
    wrapped,
)
from adalora_core.commands.session import SESSION
from adalora_core.floor.errors import INSTALL, BackendUnavailableError

if TYPE_CHECKING:
    from adalora_core.config.fields.table import Method
    from adalora_core.config.schema import Draft

PACKAGES = ("torch", "peft", "transformers", "safetensors", "pydantic")
LABEL_WIDTH = 14


def run(argv: Sequence[str]) -> int:
    """Run `adalora rule [CODE|NAME]` and return the exit code."""
    parser = Parser(
        "rule",
        "Explain one rule, or list them all.",
        {"adalora rule ADA202": "why, and how to mend it", "adalora rule": "all codes and names"},
        {"rule": {"nargs": "?", **text("CODE", "a code such as ADA202, or a name")}},
    )
    wanted = parser.parse_args(argv).rule

    from adalora_core.checker.rules import RULES, page

    if wanted is None:
        width = max(len(rule.name) for rule in RULES)
        lines = [
            f"{rule.code}  {rule.severity:<7}  {rule.name:<{width}}  {rule.summary}\n"
            for rule in RULES
        ]
        print_text("".join(lines))
        return FINE
    for rule in RULES:
        if wanted.lower() in (rule.code.lower(), rule.name):
            print_text(wrapped(page(rule)))
            return FINE
    from adalora_core.checker.pipeline.suppression import unknown_rule

    return fail("rule", f"{unknown_rule(wanted)}; run 'adalora rule' to list all rules")


def run_explain(argv: Sequence[str]) -> int:
    """Run `adalora explain [TEXT ...]` and return the exit code."""
    parser = Parser(
        "explain",
        "Name the rule about an error, and what to do.",
        {
            "adalora explain < traceback.txt": "the last known error of a text",
            "adalora explain \"KeyError: 'adalora'\"": "an error",
        },
        {"words": {"nargs": "*", **text("TEXT", "the error; without it, standard input")}, **BOUND},
        epilog="exit code: 0 known, 1 not known",
    )
    words = parser.parse_args(argv).words
    if not words and sys.stdin is None:
        return fail("explain", "standard input is closed")
    with SESSION.waiting():
        given = " ".join(words) or sys.stdin.buffer.read().decode(errors="replace")
    from adalora_core.checker.rules import explained

    found = explained(given)
    if not found:
        print_text("not known: no rule is about this error, which may not be of AdaLoRA\n")
        return FINDINGS
    for rule in found:
        lines = (
            f"{rule.code} {rule.name}: {rule.summary}\n  {rule.why}\n  what to do: {rule.hint}\n\n"
        )
        print_text(wrapped(lines))
    print_text(f"'adalora rule {found[0].code}' shows an example\n")
    return FINE


def run_schema(argv: Sequence[str]) -> int:
    """Run `adalora schema ...` and return the exit code."""
    from adalora_core.config.editor_schema import editor_schema
    from adalora_core.config.fields.table import LORA, PEFT_TYPE
    from adalora_core.config.schema import DRAFTS, config_schema, to_text

    parser = Parser(
        "schema",
        "Print the JSON Schema of a configuration.",
        {
            "adalora schema > adalora.schema.json": "for any validator",
            "adalora schema --flavour editor": "for VS Code and others",
        },
        {
            "--flavour": choice(
                ("portable", "editor"),
                "portable: for any validator (default); editor: draft-07 with the keywords of VS "
                "Code and yaml-language-server",
            ),
            "--method": choice(
                ("adalora", "lora"), "whose configuration, for portable (default: adalora)"
            ),
            "--draft": choice(tuple(DRAFTS), "for portable (default: 2020-12)"),
            "--strict-keys": flag("reject keys that PEFT does not know"),
        },
    )
    options = parser.parse_args(argv)
    of_portable = options.draft or options.strict_keys or options.method
    if options.flavour == "editor" and of_portable:
        parser.error("--flavour editor accepts none of --method, --draft and --strict-keys")
    if options.flavour == "editor":
        print_text(to_text(editor_schema()))
    else:
        method: Method = LORA if options.method == "lora" else PEFT_TYPE
        draft: Draft = options.draft or "2020-12"
        print_text(to_text(config_schema(draft, strict_keys=options.strict_keys, method=method)))
    return FINE


def run_env(argv: Sequence[str]) -> int:
    """Print the environment; return 2 if the compiled core is broken, else 0."""
    parser = Parser(
        "env",
        "Print versions and backends, and why a backend is missing.",
        {"adalora env": "for a terminal", "adalora env > env.txt": "for an issue"},
        {},
    )
    parser.parse_args(argv)
    backend, exit_code = _cpu_backend()
    lines = {
        "adalora-core": _version("adalora-core"),
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()})",
        **{name: _version(name) for name in PACKAGES},
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
    needs = f"needs a driver for CUDA {_version_text(needed)}"
    found = f"the installed driver supports CUDA {_version_text(supported)}"
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


def _core_alone() -> str:
    """Describe the compiled core where torch is not installed."""
    try:
        return _compiled(importlib.import_module("adalora_core._cpu"))
    except (ImportError, ValueError) as error:
        return f"none ({error})"


def _compiled(core: Any) -> str:
    forced = " (ADALORA_CORE_ISA)" if os.environ.get("ADALORA_CORE_ISA") else ""
    return f"compiled, instruction set {core.isa_name()}{forced}"
