"""Make virtual environments with other releases of PEFT and transformers, and run tests in them.

An environment holds what differs from the running interpreter, and finds the rest, torch and this
package among it, where that interpreter finds it.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import venv
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from packaging.requirements import Requirement
from programs import run

ROOT = Path(__file__).parents[2]
HIDDEN = "import sys; sys.modules.update(torchao=None, kernels=None)"
"""PEFT 0.18 and transformers 5.5 call these, if present, in ways that later ones refuse."""


def environment_of(folder: Path, *requirements: str) -> Path:
    """Make an environment with `requirements` in `folder`, and return its interpreter."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    (packages,) = folder.glob("lib/python*/site-packages")
    # With the .pth files of the interpreter's own folder, and none of folders that those add.
    own = sysconfig.get_paths()["purelib"]
    others = [path for path in sys.path if Path(path).is_dir() and "site-packages" in path]
    lines = [f"import site; site.addsitedir({own!r})", *others, HIDDEN]
    (packages / "behind.pth").write_text("\n".join(lines) + "\n")
    _install(packages, list(requirements))
    while unmet := _unmet(packages):
        _install(packages, unmet)
    return python


def _install(packages: Path, requirements: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", packages]
    done = run(*command, "--upgrade", *requirements, timeout=600)
    assert done.returncode == 0, done.stderr


def _unmet(packages: Path) -> list[str]:
    """Return what the packages in the environment need, and the whole of it does not have."""
    found = {_normal(each.name): each for each in distributions(path=[str(packages)])}
    needed: dict[str, str] = {}
    for each in found.values():
        for text in each.requires or []:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            name = _normal(requirement.name)
            try:
                present = found[name].version if name in found else version(name)
            except PackageNotFoundError:
                present = ""
            if not requirement.specifier.contains(present or "0", prereleases=True) or not present:
                needed[name] = f"{requirement.name}{requirement.specifier}"
    return list(needed.values())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of(pair: tuple[str, str]) -> list[str]:
    """Return the requirements for a release of PEFT and one of transformers."""
    return [f"peft=={pair[0]}", f"transformers=={pair[1]}"]


def run_tests(python: Path, *arguments: str, timeout: float = 1200) -> str:
    """Run tests of this package with the interpreter of an environment; return what it prints."""
    done = run(
        # -P: the installed package, and not the folder of sources, which has no compiled core.
        *(python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments),
        cwd=ROOT,
        variables={"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout
