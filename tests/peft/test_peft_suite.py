"""PEFT's own AdaLoRA tests, run against bridged models; taken from PEFT's published sources.

The newest sources that were read are those of PEFT 0.21.2, whose folder tuners/adalora is that of
the repository at commit 5d602fdbff04c33c1c4de55cda9d4ae1d7cb7e40.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from peft_releases import environment_of, requirements_of

from adalora_core.bridge.versions import TRIED

FILES = ["test_custom_models", "test_config", "test_initialization", "test_mixed"]

# The first word is in a class, a test or a row's name; of the other tests only the bodies have it.
SELECTED = (
    "adalora or test_from_peft_type or test_deeply_nested or test_get_nb_trainable_parameters "
    "or test_decoder_model"
)

NETWORK = re.compile("offline mode is enabled|HF_HUB_OFFLINE|LocalEntryNotFoundError")
"""What a test says that asks the hub, which is switched off."""

PLUGIN = """
from peft.tuners.adalora.layer import SVDLinear

from adalora_core import bridge
from adalora_core.bridge.layers import LinearOverrides

bridge.install()


def pytest_unconfigure():
    assert SVDLinear.forward is LinearOverrides.forward, "the bridge was taken off meanwhile"
"""


OFFLINE_PLUGIN = """
import datasets

# A class of PEFT 0.18 downloads this while its file is imported; no test of AdaLoRA reads it.
datasets.load_dataset = lambda *_, **__: {"train": []}
"""

PASSING = {"0.18": 50, "0.19": 50, "0.20": 200, "0.21": 250}
"""How many tests at least are about AdaLoRA and run without a network, by release."""


@dataclass(frozen=True)
class Release:
    """The published sources of a release of PEFT, and an interpreter that has it installed."""

    number: str
    python: str
    sources: Path


INSTALLED = pytest.param(None, marks=pytest.mark.nightly, id="installed")
OTHERS = [
    pytest.param(pair, marks=pytest.mark.nightly, id="-".join(pair))
    for pair in dict(TRIED).items()
    if pair[0] != version("peft")
]


@pytest.fixture(params=[INSTALLED, *OTHERS])
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Release:
    """The installed release, or another one in an environment of its own."""
    pair: tuple[str, str] | None = request.param
    if pair is None:
        return Release(version("peft"), sys.executable, sources(version("peft"), tmp_path))
    python = environment_of(tmp_path / "environment", *requirements_of(pair))
    return Release(pair[0], str(python), sources(pair[0], tmp_path))


def sources(number: str, folder: Path) -> Path:
    """Return the sources of a release of PEFT, as pip finds them; nothing of them is kept."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, f"peft=={number}", "-d", str(folder)], check=True, timeout=300)
    (archive,) = folder.glob("peft-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (tree,) = (path for path in folder.glob("peft-*") if path.is_dir())
    # The tests import each other as a package, and the published sources leave this file out.
    (tree / "tests" / "__init__.py").touch()
    (tree / "bridge_plugin.py").write_text(PLUGIN)
    (tree / "offline_plugin.py").write_text(OFFLINE_PLUGIN)
    return tree


@dataclass(frozen=True)
class Outcome:
    """What became of a test: "pass", or else why not."""

    kind: str
    reason: str = ""


def run(release: Release, *options: str) -> dict[str, Outcome]:
    """Run PEFT's AdaLoRA tests and return what became of each."""
    sources = release.sources
    report = sources / "report.xml"
    result = subprocess.run(
        [
            *(release.python, "-m", "pytest", "-q", "-k", SELECTED),
            *("-c", os.devnull, "--rootdir", str(sources), "-p", "no:cacheprovider"),
            *("-p", "offline_plugin"),
            *(f"--junitxml={report}", *options, *(f"tests/{name}.py" for name in FILES)),
        ],
        cwd=sources,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(sources)},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    # 1 says that some tests failed; above that, nothing can be read from the report.
    assert result.returncode in {0, 1}, result.stdout[-3000:] + result.stderr[-3000:]
    return {
        f"{case.get('classname')}::{case.get('name')}": outcome_of(case)
        for case in ET.parse(report).iter("testcase")  # noqa: S314 - written just now
    }


def outcome_of(case: ET.Element) -> Outcome:
    found = {child.tag: child for child in case}
    if "skipped" in found:
        return Outcome("skipped", str(found["skipped"].get("message")))
    broken = found.get("failure", found.get("error"))
    if broken is None:
        return Outcome("pass")
    text = f"{broken.get('message')} {broken.text}"
    return Outcome("network" if NETWORK.search(text) else "failure", text[-300:])


def described(title: str, names: list[str]) -> list[str]:
    counts = Counter(name.partition("[")[0].removeprefix("tests.") for name in names)
    return [title, *(f"  {name} ({count})" for name, count in sorted(counts.items()))]


def test_what_passes_with_peft_alone_passes_bridged(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = run(release)
    bridged = run(release, "-p", "bridge_plugin")
    named: dict[str, list[str]] = {"pass": [], "network": [], "skipped": [], "failure": []}
    for name, outcome in alone.items():
        named[outcome.kind].append(name)
    skipped = [f"{alone[name].reason}: {name}" for name in named["skipped"]]
    elsewhere = [
        path.name
        for path in sorted((release.sources / "tests").glob("test_*.py"))
        if path.stem not in FILES and "AdaLora" in path.read_text(encoding="utf-8")
    ]
    lines = [
        f"PEFT {release.number}, its AdaLoRA tests with the bridge installed",
        *described(f"{len(named['pass'])} run:", named["pass"]),
        *described(f"{len(named['network'])} need a network and do not run:", named["network"]),
        *described(f"{len(skipped)} are left out by PEFT itself:", skipped),
        *described(f"{len(named['failure'])} fail with PEFT alone:", named["failure"]),
        "models from a hub, or a GPU, are needed by all of:",
        *(f"  {name}" for name in elsewhere),
    ]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert {name: bridged.get(name) for name in named["pass"]} == dict.fromkeys(
        named["pass"], Outcome("pass")
    )
    for name in FILES:
        assert any(f"tests.{name}." in each for each in named["pass"]), name
    assert len(named["pass"]) >= PASSING[release.number.rpartition(".")[0]]
