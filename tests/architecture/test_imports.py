"""Imports: what each loads, proved in fresh interpreters, and no cycle of files."""

from __future__ import annotations

import functools
import importlib.util
import itertools
from typing import TYPE_CHECKING

import grimp
import pytest
from programs import output_of_python

from adalora_core.floor.errors import INSTALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="torch is not installed; would have shown what the compute layers load",
)

HEAVY = ("torch", "transformers", "peft", "numpy", "safetensors")
CONTRACT_ONLY = ("pydantic", "jsonschema", "yaml")


@functools.cache
def loaded_by(statement: str) -> set[str]:
    """Return the top-level packages in `sys.modules` after `statement`."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(output_of_python("-c", script).split())


@needs_torch
def test_the_proof_fails_where_torch_is_loaded() -> None:
    assert "torch" in loaded_by("import adalora_core.training")


# All in one process: what one of them loads is there in the end.
CONTRACT = """
import adalora_core, adalora_core.commands.cli, adalora_core.commands.demo
import adalora_core.commands.server.handlers
from adalora_core import AdaLoraConfig, ConfigError, check_config, validate_config
from adalora_core.checker.rules import RULES
from adalora_core.config import schema
"""
COMPUTE = (
    "import adalora_core.reference, adalora_core.ops, adalora_core.nn, adalora_core.allocation"
)


def test_the_contract_loads_nothing_heavy() -> None:
    assert loaded_by(CONTRACT).isdisjoint(HEAVY)


@needs_torch
def test_compute_loads_no_validation() -> None:
    assert loaded_by(COMPUTE).isdisjoint(CONTRACT_ONLY)


@needs_torch
def test_training_loads_neither_peft_nor_transformers() -> None:
    assert loaded_by("import adalora_core.training").isdisjoint({"peft", "transformers"})


def test_name_that_needs_torch_says_in_one_sentence_what_to_install() -> None:
    script = (
        "import sys\nsys.modules['torch'] = None\n"
        "try:\n    from adalora_core import get_peft_model\n"
        "except ImportError as error:\n    print(error, error.__suppress_context__)"
    )
    assert output_of_python("-c", script) == (
        f"get_peft_model needs the package 'torch'; {INSTALL.format('torch')} True\n"
    )


def cycle_in(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the modules of one cycle, or nothing where there is none."""
    finished: set[str] = set()
    for start in graph:
        path: list[str] = []
        stack = [iter([start])]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                finished.update(path[-1:])
                path = path[:-1]
            elif following in path:
                return path[path.index(following) :]
            elif following not in finished:
                path.append(following)
                stack.append(iter(sorted(graph.get(following, ()))))
    return []


def imports_of(package: str) -> dict[str, set[str]]:
    """Return which module imports which, imports for type checkers included."""
    found = grimp.build_graph(package, exclude_type_checking_imports=False, cache_dir=None)
    graph = {module: found.find_modules_directly_imported_by(module) for module in found.modules}
    for module in found.find_modules_that_directly_import(package):
        lines = found.get_import_details(importer=module, imported=package)
        # The graph holds no compiled modules and takes the package for them.
        if all(line["line_contents"].startswith(f"from {package} import _c") for line in lines):
            graph[module].discard(package)
    return graph


def test_no_files_import_each_other_in_a_cycle() -> None:
    graph = imports_of("adalora_core")
    assert graph["adalora_core.checker.check"]
    assert cycle_in(graph) == []


def test_a_cycle_of_files_for_type_checkers_alone_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "circular"
    package.mkdir()
    (package / "__init__.py").touch()
    names = ("first", "second", "third")
    for one, other in itertools.pairwise((*names, names[0])):
        (package / f"{one}.py").write_text(
            "from typing import TYPE_CHECKING\n"
            f"if TYPE_CHECKING:\n    from circular import {other}\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    assert sorted(cycle_in(imports_of("circular"))) == [f"circular.{name}" for name in names]
