"""Settings and fixtures of the whole suite."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from file_order import longest_first
from hypothesis import settings
from tier_budget import Budget

if TYPE_CHECKING:
    from collections.abc import Iterator

# Nothing in the suite may ask a network; set before transformers is imported anywhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Small models gain nothing from threads, and the idle threads of two test runs on one machine spin
# against each other; a test that is about threads sets its own number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs with SIGINT ignored, and what they start ignores it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# On a loaded machine one slow example is not a failure, so examples have no deadline. A change is
# judged by the same examples every time; a nightly test draws fresh ones (--hypothesis-profile).
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("fresh", deadline=None)
settings.load_profile("fixed")

HAS_TORCH = importlib.util.find_spec("torch") is not None

# Where torch is not installed the contract is still tested; the rest cannot even be imported.
NEED_TORCH = [
    "allocation",
    "benchmarks",
    "bridge",
    "checker/plan/test_adapter_tensors.py",
    "checker/plan/test_plan_of_models.py",
    "checker/plan/test_sizing.py",
    "commands/cli/test_plan_budget.py",
    "commands/cli/test_plan_lora.py",
    "commands/cli/test_plan_weights.py",
    "commands/demo",
    "commands/injection",
    "commands/rank_report",
    "core",
    "defects",
    "differential",
    "distributed",
    "nn",
    "ops",
    "peft",
    "runs",
    "scripts",
    "security/test_adapter_folders.py",
    "security/test_malformed_adapters.py",
    "security/test_native_module.py",
    "security/test_rank_report.py",
    "shell/test_demo.py",
    "trainers",
    "training",
]
collect_ignore = [] if HAS_TORCH else NEED_TORCH


FAST_TIER = "not slow and not nightly"
MOST_WORKERS = 4
"""Each imports torch and transformers, and takes about a gigabyte."""


def pytest_configure(config: pytest.Config) -> None:
    """Watch the budget of the fast tier."""
    budget = Budget(is_checked=config.getoption("markexpr").startswith(FAST_TIER))
    budget.watch()
    config.pluginmanager.register(budget)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Use a process for each core, some at most; none but this one for tests of named files."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    if all(each.partition("::")[0].endswith(".py") for each in config.args):
        return 0
    return min(os.cpu_count() or 1, MOST_WORKERS)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file whose tests are all of another tier: each worker spends seconds on that."""
    if collection_path.suffix != ".py" or not config.getoption("markexpr").startswith(FAST_TIER):
        return None
    marked = r"^pytestmark = pytest\.mark\.(slow|nightly)$"
    return bool(re.search(marked, collection_path.read_text("utf-8"), re.MULTILINE)) or None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Refuse a test of two tiers, deselect tests on a GPU where there is none, sort for workers.

    Raises:
        pytest.UsageError: a test is marked slow and nightly: `-m slow` would run what takes hours.
    """
    for item in items:
        if item.get_closest_marker("nightly") is None:
            continue
        # A parameter of a fixture may be slow where the test itself is nightly.
        marks = getattr(getattr(item, "callspec", None), "marks", ())
        slow = [each for each in marks if each.name == "slow"]
        item.own_markers[:] = [
            each for each in item.own_markers if not any(each is one for one in slow)
        ]
        if item.get_closest_marker("slow"):
            raise pytest.UsageError(f"{item.nodeid} is slow and nightly: choose one tier")
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and "gpu" not in config.getoption("markexpr") and not _has_gpu():
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=on_gpu)
    yield  # `-m` deselects
    if hasattr(config, "workerinput"):
        items[:] = longest_first(items)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_finish() -> None:
    """Spare the garbage collector the modules and tests that stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _outside_the_source_tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Work in an empty folder: `python -c` looks into the working directory first.

    From the root of the project it would import the sources, not what is installed.
    """
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("working-directory"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _peft_as_it_was() -> Iterator[None]:
    """Fail the test that leaves PEFT bridged, instead of a later one that asks PEFT itself."""
    yield
    bridge = sys.modules.get("adalora_core.bridge.attaching")
    if bridge is not None and bridge.replaced:
        bridge.uninstall()
        pytest.fail("the bridge to PEFT was left installed: use the fixture `installed`")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Every test starts from the same random state."""
    if HAS_TORCH:
        import torch

        torch.manual_seed(0)


@pytest.fixture
def installed() -> Iterator[None]:
    """Models that PEFT makes are bridged until the test ends."""
    from adalora_core.bridge import install, uninstall

    install()
    yield
    uninstall()


@pytest.fixture
def forget_dataloaders() -> None:
    """Let no Trainer of an earlier test, stopped amid its data, end accumulation at every batch.

    accelerate keeps the loader that it reads in a state of the whole process.
    """
    from accelerate.state import GradientState

    GradientState._reset_state()


@pytest.fixture(params=["own", "import", pytest.param("attach", marks=pytest.mark.slow)])
def door(request: pytest.FixtureRequest) -> str:
    """Make the models of a test through each door of the package; a key of `LIBRARIES`."""
    if request.param == "import":
        request.getfixturevalue("installed")
    return {"own": "adalora_core", "import": "peft", "attach": "attached"}[request.param]


@pytest.fixture(params=["adalora_core", "attached"])
def library(request: pytest.FixtureRequest) -> str:
    """Make the models of a test by what has our allocator; a key of `LIBRARIES`."""
    name: str = request.param
    return name


@pytest.fixture(params=["native", pytest.param("portable", marks=pytest.mark.slow)])
def op_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Serve every call of a test by the compiled core, or by torch's operations."""
    name: str = request.param
    if name == "portable":
        monkeypatch.setattr("adalora_core.ops._backend.HAS_CORE", False)
    return name
