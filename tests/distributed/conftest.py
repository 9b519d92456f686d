"""Mark as slow what starts processes, which take turns on two cores, but a case of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from peft_releases import environment_of

pytest.register_assert_rewrite("distributed_runs")

HERE = Path(__file__).parent
COMPARED = "test_every_process_goes_the_way_of_the_single_one"
FAST = {f"{COMPARED}[{kind}-2-adapted-penalty]" for kind in ("ddp", "fsdp2")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests here that start processes, whose files are in `tmp_path`, but two.

    Raises:
        pytest.UsageError: these two are gone: the fast tier would be without processes.
    """
    compared = {item.name for item in items if item.name.startswith(COMPARED)}
    if len(compared) > len(FAST) and not compared >= FAST:
        raise pytest.UsageError(f"no {sorted(FAST - compared)}: choose other cases to stay fast")
    for item in items:
        if item.get_closest_marker("nightly") or HERE not in item.path.parents:
            continue
        if "tmp_path" in getattr(item, "fixturenames", ()) and item.name not in FAST:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def python_with_deepspeed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an interpreter with DeepSpeed, which is built from its source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DS_BUILD_OPS", "0")
        patch.setenv("DS_ACCELERATOR", "cpu")
        return environment_of(tmp_path_factory.mktemp("deepspeed"), "deepspeed>=0.19")
