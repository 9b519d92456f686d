"""The tests look at the installed package, and what is installed is what stands in this tree."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import distribution, version
from importlib.util import find_spec
from pathlib import Path

import pytest

import adalora_core

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "adalora_core"
INSTALLED = Path(adalora_core.__file__).parent


def is_editable() -> bool:
    origin = json.loads(distribution("adalora-core").read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable", False))


def test_package_under_test_is_the_installed_one():
    """Importing the source folder instead would miss the compiled core or test a stale one."""
    if is_editable():
        assert INSTALLED == SOURCES
    else:
        assert INSTALLED != SOURCES, (
            "adalora_core was imported from the source tree, not from where it is installed; "
            "start the tests with 'pytest', not with 'python -m pytest', from the project's root"
        )


def test_installed_version_is_the_one_of_this_tree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert version("adalora-core") == project["version"], "reinstall: pip install ."


def test_installed_files_are_the_ones_of_this_tree():
    """A stale installation would test yesterday's code."""
    tree = {path.relative_to(SOURCES) for path in SOURCES.rglob("*.py")}
    stale = [
        str(path)
        for path in sorted(tree)
        if not (INSTALLED / path).is_file()
        or (INSTALLED / path).read_bytes() != (SOURCES / path).read_bytes()
    ]
    assert not stale, "the installed package is not this tree: pip install ."


@pytest.mark.parametrize("module", ["adalora_core._cpu", "adalora_core._cuda"])
def test_compiled_module_of_an_editable_install_is_newer_than_its_sources(module: str):
    """A change under csrc/ reaches Python only when the install is repeated."""
    spec = find_spec(module)
    if not is_editable() or spec is None or spec.origin is None:
        pytest.skip(f"no {module} that is built in place")
    sources = [ROOT / "CMakeLists.txt", *(p for p in (ROOT / "csrc").rglob("*") if p.is_file())]
    newest = max(sources, key=lambda path: path.stat().st_mtime)
    assert Path(spec.origin).stat().st_mtime >= newest.stat().st_mtime, (
        f"{module} is older than {newest.relative_to(ROOT)}: run pip install -e ."
    )
