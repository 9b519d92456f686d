"""Rehearse a release: build it, publish it to an index of this machine, install it from there.

`pytest -m nightly -rP tests/packaging/test_release_rehearsal.py` prints what each step shows.
"""

from __future__ import annotations

import email
import importlib.util
import json
import os
import re
import shutil
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from package_index import knowing_only, served
from programs import Finished, output_of, output_of_python, run
from walkthroughs import blocks_of

from adalora_core.config.rules.base import SOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
JOB = ROOT / ".ci" / "run"
PAGE = ROOT / "docs" / "release.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]
OLDER = "0.0.9"
DATE = "2027-01-15"
EXTRAS = {
    "this": ("torch", "transformers", "peft", "plot", "lsp", "demo"),
    "second": ("plot", "lsp"),
}
"""The extras of users, where the Python has torch and where it has not."""
TOOLS = {"auditwheel", "build", "cibuildwheel", "pypiserver", "twine"}
SCRIPTS = Path(sys.executable).parent
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=no")
# As cibuildwheel is called, for this Python and without a container.
STAND_IN = f"""\
set -euo pipefail
echo "in containers: $('{sys.executable}' -m cibuildwheel --print-build-identifiers \
--platform linux --archs x86_64,aarch64 | tr '\\n' ' ')"
plain=$(mktemp -d)
ADALORA_CUDA=OFF '{sys.executable}' -m pip wheel --quiet --no-deps --wheel-dir "$plain" .
PATH='{SCRIPTS}':$PATH '{sys.executable}' -m auditwheel repair --wheel-dir "$2" "$plain"/*.whl
"""


def lacking(*modules: str) -> pytest.MarkDecorator:
    missing = [each for each in modules if importlib.util.find_spec(each) is None]
    reason = f"would rehearse a release with {', '.join(missing)}; install the extra: release"
    return pytest.mark.skipif(bool(missing), reason=reason)


pytestmark = [
    pytest.mark.nightly,
    lacking(*sorted(TOOLS)),
    pytest.mark.skipif(not JOB.exists(), reason="an sdist has no .ci/run; would have run its job"),
    pytest.mark.skipif(shutil.which("git") is None, reason="no git; would rehearse a release"),
]


def shown(text: str, last: int = 1000) -> str:
    """Print, for `-rP`, the last lines of what a step has printed."""
    sys.stdout.write("\n".join([*text.strip().splitlines()[-last:], ""]))
    return text


@pytest.fixture(scope="module")
def commit(source_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository whose newest commit is what is released."""
    tree = tmp_path_factory.mktemp("release") / "adalora-core"
    shutil.copytree(source_tree, tree)
    shown(output_of(sys.executable, tree / "tools" / "release.py", DATE))
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Release"]):
        output_of(*GIT, *arguments, cwd=tree)
    return tree


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Run the release job of .ci/run in a clone; only cibuildwheel has a stand-in."""
    function = re.search(
        r"^build_release\(\) \{\n.*?^\}", JOB.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert function

    def built(repository: Path) -> Path:
        work = tmp_path_factory.mktemp("work")
        programs = {each: f"exec '{sys.executable}' -m {each} \"$@\"" for each in ("pip", "twine")}
        programs |= {"python": f"exec '{sys.executable}' \"$@\"", "cibuildwheel": STAND_IN}
        (work / "venv" / "bin").mkdir(parents=True)
        for name, text in programs.items():
            program = work / "venv" / "bin" / name
            program.write_text(f"#!/usr/bin/env bash\n{text}\n")
            program.chmod(0o755)
        output_of(*GIT, "clone", "-q", repository, work / "clone")
        script = f"set -euo pipefail\n{function[0]}\nbuild_release"
        variables = {"work": str(work), "ADALORA_DIST": str(work / "dist"), "NO_COLOR": "1"}
        shown(output_of("bash", "-c", script, cwd=work / "clone", variables=variables))
        return work / "dist"

    return built


@pytest.fixture(scope="module")
def dist(commit: Path, build: Callable[[Path], Path]) -> Path:
    return build(commit)


def interpreter(which: str) -> str:
    """Return this Python, or another of those that the package names."""
    if which == "this":
        return getattr(sys, "_base_executable", sys.executable)
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["project"]["classifiers"]))
    others = [each for each in reversed(named) if each != "{}.{}".format(*sys.version_info)]
    paths = [os.environ.get("ADALORA_SECOND_PYTHON"), *(f"python{each}" for each in others)]
    for path in filter(None, map(shutil.which, filter(None, paths))):
        done = run(path, "-c", "import ensurepip, sys; print(sys.executable)")
        if done.returncode == 0:
            return done.stdout.strip()
    return pytest.skip(f"would install on a second Python; none of {', '.join(others)} is here")


def requirements(*extras: str) -> set[str]:
    """Return what the package and its extras need, without the package itself."""
    found = set(PROJECT["project"]["dependencies"])
    for line in [
        each for name in extras for each in PROJECT["project"]["optional-dependencies"][name]
    ]:
        own = re.fullmatch(r"adalora-core\[(.*)\]", line)
        found |= requirements(*own[1].split(",")) if own else {line}
    return found


class Index:
    """An index that has what the package needs, and the package once it is uploaded."""

    def __init__(self, folder: Path, address: str, work: Path) -> None:
        self.folder, self.address, self._work = folder, address, work
        self._number = 0

    def apart(self) -> dict[str, object]:
        """Return how to run an installer: in a new folder and home, with this index alone."""
        self._number += 1
        home = self._work / f"home-{self._number}"
        home.mkdir()
        return {"env": knowing_only(self.address, home), "cwd": home, "timeout": 1800}

    def upload(self, *files: Path) -> Finished:
        """Upload files as the workflow does, but for its proof of identity."""
        command = [sys.executable, "-m", "twine", "upload", "--non-interactive"]
        to = ["--repository-url", self.address, "-u", "test", "-p", "test"]
        return run(*command, *to, "--disable-progress-bar", *files, **self.apart())


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    work = tmp_path_factory.mktemp("index")
    folder = work / "packages"
    folder.mkdir()
    # Besides: what builds an sdist and the mirror, and the pip that pipx updates to.
    besides = {*PROJECT["build-system"]["requires"], "pip", "setuptools"}
    for which, extras in EXTRAS.items():
        try:
            python = interpreter(which)
        except pytest.skip.Exception:
            continue  # each test that needs it says so
        output_of(python, "-m", "venv", work / which)
        wanted = sorted(requirements(*extras) | besides)
        download = [work / which / "bin" / "python", "-m", "pip", "download", "--quiet", "-d"]
        output_of(*download, folder, *wanted)
    with served(folder) as address:
        yield Index(folder, address, work)


@pytest.fixture(scope="module")
def published(
    index: Index, dist: Path, commit: Path, tmp_path_factory: pytest.TempPathFactory
) -> Index:
    """An index with this release and an older build."""
    work = tmp_path_factory.mktemp("older")
    output_of(*GIT, "clone", "-q", commit, work / "clone")
    settings = work / "clone" / "pyproject.toml"
    text = settings.read_text("utf-8")
    settings.write_text(text.replace(f'version = "{VERSION}"', f'version = "{OLDER}"'))
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", work]
    output_of(*wheel, work / "clone", variables={"ADALORA_NATIVE": "OFF"})
    for files in (work.glob("*.whl"), sorted(dist.iterdir())):
        done = index.upload(*files)
        assert done.returncode == 0, done.stdout + done.stderr
        shown(done.stdout)
    return index


@pytest.fixture(params=["this", "second"])
def which(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def python(which: str) -> str:
    found = interpreter(which)
    shown(f"{found}: {output_of(found, '--version')}")
    return found


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A configuration with a fault."""
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(SOUND | {"deltaT": 0}))
    return path


def assert_finds_the_fault(done: Finished) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error[ADA204]" in done.stdout
    shown(re.findall("error.*", done.stdout)[0])


@pytest.fixture
def installed_from(published: Index, python: str, tmp_path: Path):
    """Install something from the index into a new environment; return the folder of programs."""

    def install(*arguments: str, **variables: str) -> Path:
        apart = published.apart()
        apart["env"] |= variables
        programs = tmp_path / "environment" / "bin"
        if not programs.exists():
            output_of(python, "-m", "venv", programs.parent, **apart)
        done = output_of(programs / "python", "-m", "pip", "install", *arguments, **apart)
        told = re.compile(r"(?:Downloading .*adalora_core|Successfully|.*satisfied: adalora).*")
        shown("\n".join(told.findall(done)))
        output_of(programs / "python", "-m", "pip", "check", **apart)
        return programs

    return install


def test_command_dates_the_changelog_and_every_page_says_the_release(commit: Path) -> None:
    text = (commit / "CHANGELOG.md").read_text("utf-8")
    assert f"\n## [{VERSION}] - {DATE}\n" in text
    assert "[Unreleased]" not in text
    again = run(sys.executable, commit / "tools" / "release.py", DATE)
    assert again.returncode == 2
    assert output_of_python(commit / "tools" / "regenerate.py", "--check", "install") == ""
    tests = [
        "packaging/test_version.py",
        "packaging/test_pipelines.py::test_page_shows_the_examples_and_the_inputs_of_the_action",
        "docs/test_editor_recipes.py::test_extras_are_installed_from_where_the_package_is",
        "docs/test_links.py",
        "docs/test_readme.py::test_commands_to_copy_are_whole",
        "docs/test_readme.py::test_page_is_short",
    ]
    command = ["-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    shown(output_of_python(*command, *(f"tests/{each}" for each in tests), cwd=commit), 1)


def test_release_is_the_same_bytes_when_built_again(
    dist: Path, commit: Path, build: Callable[[Path], Path]
) -> None:
    first, second = (
        {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        for folder in (dist, build(commit))
    )
    shown("\n".join(f"{digest}  {name}" for name, digest in first.items()))
    assert first == second
    assert len(first) == 3


def test_index_has_what_was_uploaded_and_asks_no_other(published: Index, dist: Path) -> None:
    for path in dist.iterdir():
        assert (published.folder / path.name).read_bytes() == path.read_bytes()
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "-d", "."]
    absent = run(*download, "pypiserver", **published.apart())
    assert absent.returncode == 1
    assert "No matching distribution found" in shown(absent.stderr, 1)


def test_page_of_the_index_shows_no_broken_picture(dist: Path, commit: Path) -> None:
    from readme_renderer import markdown  # as the index and twine do

    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        name = next(each for each in wheel.namelist() if each.endswith("/METADATA"))
        page = markdown.render(email.message_from_bytes(wheel.read(name)).get_payload())
    output_of(*GIT, "tag", f"v{VERSION}", cwd=commit)
    pictures = re.findall(r' src(?:set)?="([^"]*)', page)
    shown("\n".join(pictures))
    for picture in pictures:
        address = re.fullmatch(r"https://raw\.\w+\.com/\w+/adalora-core/([^/]+)/(.+)", picture)
        assert output_of(*GIT, "cat-file", "-t", "{}:{}".format(*address.groups()), cwd=commit)
    assert len(pictures) >= 2


def test_files_of_a_release_are_not_replaced(published: Index, dist: Path) -> None:
    done = published.upload(*sorted(dist.iterdir()))
    assert done.returncode == 1
    shown(done.stdout + done.stderr, 3)
    assert "already exists" in shown(published.folder.with_suffix(".log").read_text(), 2)


def test_pip_installs_a_command_that_checks(
    installed_from: Callable[..., Path], which: str, wrong: Path
) -> None:
    programs = installed_from("adalora-core")
    assert shown(output_of(programs / "adalora", "--version")) == f"adalora-core {VERSION}\n"
    shown(output_of(programs / "adalora", "env", cwd=wrong.parent))
    assert_finds_the_fault(run(programs / "adalora", "check", wrong))
    # This Python has a wheel with a core; the other one, as macOS and musl, the wheel without.
    core = run(programs / "python", "-I", "-c", "import adalora_core._cpu")
    assert (core.returncode == 0) == (which == "this")
    script = "from adalora_core import get_peft_model"
    absent = run(programs / "python", "-I", "-c", script)
    assert "; run pip install 'adalora-core[torch]'" in shown(absent.stderr, 1)


@lacking("uv")
def test_uvx_checks_without_an_installation(published: Index, python: str, wrong: Path) -> None:
    command = [SCRIPTS / "uvx", "--python", python, "--from", "adalora-core", "adalora"]
    shown(" ".join(map(str, [*command, "check", wrong])))
    assert_finds_the_fault(run(*command, "check", wrong, **published.apart()))
    version = output_of(*command, "--version", **published.apart())
    assert version == f"adalora-core {VERSION}\n"


@lacking("pipx")
def test_pipx_checks_without_an_installation(published: Index, python: str, wrong: Path) -> None:
    command = [sys.executable, "-m", "pipx", "run", "--python", python, "--spec", "adalora-core"]
    shown(" ".join(map(str, [*command, "adalora", "check", wrong])))
    assert_finds_the_fault(run(*command, "adalora", "check", wrong, **published.apart()))


def test_extras_are_complete(
    installed_from: Callable[..., Path], which: str, tmp_path: Path
) -> None:
    programs = installed_from(f"adalora-core[{','.join(EXTRAS[which])}]")
    for extra in EXTRAS[which]:
        installed_from("--no-index", f"adalora-core[{extra}]")  # it is all there
    shown(output_of(programs / "adalora", "env", cwd=tmp_path))
    output_of(programs / "python", "-I", "-c", "import matplotlib, pygls")
    if which == "this":
        (block,) = (each for each in blocks_of(ROOT / "README.md") if each.language == "python")
        (tmp_path / "train.py").write_text(block.content)
        output_of(programs / "python", "train.py", cwd=tmp_path)
        output_of(programs / "adalora", "check", "adapter", cwd=tmp_path)
        demo = ["demo", "--quick", "--output", "out"]
        shown(output_of(programs / "adalora", *demo, cwd=tmp_path), 5)


@lacking("pre_commit")
def test_mirror_of_the_hooks_checks_with_the_release(
    published: Index, python: str, wrong: Path, tmp_path: Path
) -> None:
    (mirrored,) = (
        each.content for each in blocks_of(PAGE) if each.content.startswith("# pyproject.toml")
    )
    mirror, project = tmp_path / "mirror", tmp_path / "project"
    mirror.mkdir()
    (mirror / "pyproject.toml").write_text(mirrored)
    shutil.copy(ROOT / ".pre-commit-hooks.yaml", mirror)
    project.mkdir()
    shutil.copy(wrong, project)
    config = {"repo": str(mirror), "rev": f"v{VERSION}", "hooks": [
        {"id": "adalora-check", "verbose": True, "language_version": python}]}  # fmt: skip
    (project / ".pre-commit-config.yaml").write_text(json.dumps({"repos": [config]}))
    for folder in (mirror, project):
        for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
            output_of(*GIT, *arguments, cwd=folder)
    output_of(*GIT, "tag", f"v{VERSION}", cwd=mirror)
    command = [sys.executable, "-m", "pre_commit", "run", "--all-files", "--color=never"]
    assert_finds_the_fault(run(*command, **published.apart() | {"cwd": project}))


def test_older_build_is_upgraded(installed_from: Callable[..., Path], wrong: Path) -> None:
    programs = installed_from(f"adalora-core=={OLDER}")
    assert output_of(programs / "adalora", "--version") == f"adalora-core {OLDER}\n"
    installed_from("--upgrade", "adalora-core")
    assert output_of(programs / "adalora", "--version") == f"adalora-core {VERSION}\n"
    assert_finds_the_fault(run(programs / "adalora", "check", wrong))


def test_sdist_of_the_index_installs(installed_from: Callable[..., Path], wrong: Path) -> None:
    programs = installed_from("--no-binary", "adalora-core", "adalora-core", ADALORA_NATIVE="OFF")
    assert_finds_the_fault(run(programs / "adalora", "check", wrong))
