"""PEFT's own AdaLoRA tests, run against bridged models; taken from PEFT's published sources."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

FILES = ["test_custom_models", "test_config", "test_initialization", "test_mixed"]

PLUGIN = """
from peft.tuners.adalora.layer import SVDLinear

from adalora_core.integrations import peft as bridge
from adalora_core.integrations.peft.layers import LinearOverrides

bridge.install()


def pytest_unconfigure():
    assert SVDLinear.forward is LinearOverrides.forward, "the bridge was taken off meanwhile"
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the installed PEFT, as pip finds them; nothing of them is kept."""
    folder = tmp_path_factory.mktemp("peft")
    name = f"peft=={version('peft')}"
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    subprocess.run([*command, name, "-d", str(folder)], check=True, timeout=300)
    (archive,) = folder.glob("peft-*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (tree,) = (path for path in folder.iterdir() if path.is_dir())
    # The tests import each other as a package, and the published sources leave this file out.
    (tree / "tests" / "__init__.py").touch()
    (tree / "bridge_plugin.py").write_text(PLUGIN)
    return tree


def run(sources: Path, *options: str) -> dict[str, str]:
    """Run PEFT's AdaLoRA tests and return what became of each."""
    report = sources / "report.xml"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-k", "AdaLora or adalora"),
            *("-c", os.devnull, "--rootdir", str(sources), "-p", "no:cacheprovider"),
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
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - written just now
        kinds = {child.tag for child in case}
        outcome = next((kind for kind in ("failure", "error", "skipped") if kind in kinds), "pass")
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = outcome
    return outcomes


def test_what_passes_with_peft_alone_passes_bridged(
    sources: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = run(sources)
    bridged = run(sources, "-p", "bridge_plugin")
    passing = [name for name, outcome in alone.items() if outcome == "pass"]
    lines = [f"PEFT {version('peft')}: {len(passing)} of its AdaLoRA tests run bridged:"]
    counts = Counter(name.partition("[")[0] for name in passing)
    lines += [f"  {name} ({count})" for name, count in sorted(counts.items())]
    lines.append("need a network, or are left out by PEFT itself:")
    lines += [f"  {outcome}: {name}" for name, outcome in alone.items() if outcome != "pass"]
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    assert [name for name in passing if bridged.get(name) != "pass"] == []
    for name in FILES:
        assert any(f"tests.{name}." in each for each in passing), name
    assert len(passing) >= 250
