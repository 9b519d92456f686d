"""A save that is killed at any moment leaves the old save or the new one, whole."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import interrupted_saves
import peft
import pytest
import torch
from adalora_runs import make
from edited_states import SCHEDULE
from interrupted_saves import SCENARIOS
from resumed_runs import everything
from toy_models import outputs, two_layer

from adalora_core import AdaLoraModel
from adalora_core.bridge import attach
from adalora_core.floor.errors import CheckpointError

# Unfinished runs are saved without their state on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:ADA811")

NAMES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
REFUSED = "refused"


def digest_of(found: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, each in sorted(found.items()):
        tensor = isinstance(each, torch.Tensor)
        content = each.detach().contiguous().numpy().tobytes() if tensor else repr(each).encode()
        digest.update(name.encode() + content)
    return digest.hexdigest()


def resumed(folder: Path) -> str:
    """What a run that resumes gets."""
    try:
        model = AdaLoraModel.from_pretrained(two_layer(), folder, is_trainable=True)
    except CheckpointError:
        return REFUSED
    config = model.peft_config["default"].to_json_dict()
    return digest_of({**everything(model), "config": config})


def used(folder: Path) -> str:
    """What inference gets."""
    try:
        model = AdaLoraModel.from_pretrained(two_layer(), folder)
    except CheckpointError:
        return REFUSED
    config = model.peft_config["default"].to_json_dict()
    return digest_of({**model.state_dict(), "config": config, "outputs": outputs(model)})


def used_by_peft(folder: Path) -> str:
    """What PEFT gets, or any reader of its files."""
    try:
        model = peft.PeftModel.from_pretrained(two_layer(), str(folder))
    except ValueError as error:
        assert "adapter_config.json" in str(error)  # noqa: PT017 - any text would hide a fault
        return REFUSED
    return digest_of({"outputs": outputs(model), "alpha": model.peft_config["default"].lora_alpha})


def reloaded_by_bridge(folder: Path) -> str:
    """What a bridged model gets that loads a checkpoint, as under Trainer."""
    model = attach(make("peft", two_layer(), **SCHEDULE))
    model.load_adapter(str(folder), "default", is_trainable=True)
    return digest_of(dict(model.named_parameters()))


def interrupted(name: str, folder: Path) -> dict[str, Path]:
    """Kill the save of a scenario everywhere; return the folders by the call."""
    script = interrupted_saves.__file__
    assert script is not None
    path = os.pathsep.join([str(Path(script).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, script, name, str(folder)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {each.name: each for each in sorted(folder.iterdir()) if each.name[0].isdigit()}


def check(name: str, folder: Path, capsys: pytest.CaptureFixture[str], every: int = 1) -> None:
    folders = interrupted(name, folder)
    with capsys.disabled():
        sys.stdout.write(f"\n{name}: killed at {len(folders)} calls ")
    readers = [used_by_peft] if "export" in name else [resumed, used, used_by_peft]
    for reader, part in itertools.product(readers, ("", "other")):
        if not (folder / "new" / part).is_dir():
            continue
        allowed = {reader(folder / each / part) for each in ("old", "new")}
        if reader is used_by_peft:
            allowed.add(REFUSED)
        for call, torn in list(folders.items())[::every]:
            assert reader(torn / part) in allowed, (reader.__name__, call)
    if "export" in name:
        return
    # The next save deletes what the killed one has left, and leaves nothing behind.
    model = AdaLoraModel.from_pretrained(two_layer(), folder / "new", is_trainable=True)
    for torn in list(folders.values())[:: 5 * every]:
        model.save_pretrained(torn, save_training_state=True)
        model.save_pretrained(torn, save_training_state=False)
        names = {each.name for each in torn.iterdir()}
        assert names <= {*NAMES, "other"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unfinished to unfinished", "unfinished to finished"])
def test_some_moments(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(name, tmp_path, capsys, every=3)


@pytest.mark.nightly
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_moment(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(name, tmp_path, capsys)


@pytest.mark.nightly
@pytest.mark.parametrize("first", ["unfinished to finished", "warm-up to another alpha"])
def test_every_moment_of_a_save_into_a_torn_folder(first: str, tmp_path: Path) -> None:
    folders = interrupted(first, tmp_path / "first")
    for call, torn in list(folders.items())[::4]:
        root = tmp_path / call
        shutil.copytree(torn, root / "old")
        again = interrupted("unfinished to unfinished", root)
        for reader in (resumed, used):
            allowed = {reader(root / "old"), reader(root / "new")}
            assert REFUSED not in allowed
            for each in again.values():
                assert reader(each) in allowed, (call, each.name)


@pytest.mark.nightly
def test_a_bridged_model_reloads_either(tmp_path: Path) -> None:
    folders = interrupted("bridged", tmp_path)
    allowed = {reloaded_by_bridge(tmp_path / each) for each in ("old", "new")}
    for call, torn in folders.items():
        assert reloaded_by_bridge(torn) in allowed, call
