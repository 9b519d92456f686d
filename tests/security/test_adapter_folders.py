"""Nothing outside of an adapter's folder is written or shown, whatever its names and links are."""

from __future__ import annotations

import json
import os

import pytest
import torch
from adalora_runs import SETTINGS, make
from confined import CANARY
from malformed_adapters import CONFIG, WEIGHTS

from adalora_core import AdaLoraModel
from adalora_core.commands.cli import main
from adalora_core.config.findings import ConfigError
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.files import refuse_links_out


@pytest.fixture
def folder(tmp_path):
    """An adapter in a folder, with a secret beside the folder."""
    folder = tmp_path / "adapter"
    make("adalora_core").save_pretrained(folder)
    (tmp_path / "secret.json").write_text(f'{{"peft_type": "ADALORA",\n "init_r": "{CANARY}"}}\n')
    return folder


def _link(path, target):
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def test_a_bridged_adapter_whose_name_is_a_path_is_not_saved(tmp_path):
    model = make("attached")
    config = model.peft_config["default"].__class__(**SETTINGS, inference_mode=True)
    model.add_adapter(str(tmp_path / "out"), config)
    with pytest.raises(ValueError, match="is not inside of"):
        model.save_pretrained(tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_a_subfolder_that_is_a_link_out_is_not_written(tmp_path):
    model = make("attached")
    config = model.peft_config["default"]
    model.add_adapter("other", config.__class__(**SETTINGS, inference_mode=True))
    saved, outside = tmp_path / "saved", tmp_path / "outside"
    saved.mkdir()
    outside.mkdir()
    (saved / "other").symlink_to(outside)
    with pytest.raises(ValueError, match="a link leads out"):
        model.save_pretrained(saved)
    assert not list(outside.iterdir())
    assert [each.name for each in saved.iterdir()] == ["other"]
    _link(saved / "other", "inside")
    (saved / "inside").mkdir()
    model.save_pretrained(saved)
    assert (saved / "inside" / WEIGHTS).is_file()


def test_a_configuration_behind_a_link_out_is_not_shown(folder, tmp_path, capsys):
    _link(folder / CONFIG, "../secret.json")
    message = "a link out of its folder, and what it leads to is not a configuration"
    with pytest.raises(CheckpointError, match=message) as refusal:
        AdaLoraModel.from_pretrained(make("adalora_core").unload(), folder)
    assert CANARY not in str(refusal.value)
    for command in (["export-lora", folder, tmp_path / "out"], ["report", folder]):
        assert main([str(each) for each in command]) == 2
        done = capsys.readouterr()
        assert CANARY not in done.out + done.err
        assert "a link out of its folder is not followed" in done.err


def test_a_link_to_a_sound_file_and_into_the_cache_of_a_hub_are_followed(folder, tmp_path):
    base = make("adalora_core").unload()
    snapshot, blobs = tmp_path / "model/snapshots/0123", tmp_path / "model/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in (CONFIG, WEIGHTS):
        (folder / name).rename(blobs / name)
        _link(folder / name, blobs / name)
        _link(snapshot / name, f"../../blobs/{name}")
    refuse_links_out(snapshot)
    for place in (folder, snapshot):
        base = AdaLoraModel.from_pretrained(base, place).unload()
    (blobs / CONFIG).write_text(json.dumps(SETTINGS | {"peft_type": "ADALORA", "init_r": "x"}))
    with pytest.raises(ConfigError, match="init_r"):
        AdaLoraModel.from_pretrained(base, snapshot)


def test_a_save_replaces_links_and_reads_no_device(folder):
    model = make("adalora_core")
    _link(folder / CONFIG, "/dev/zero")
    model.save_pretrained(folder)
    assert not (folder / CONFIG).is_symlink()
    AdaLoraModel.from_pretrained(model.unload(), folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("target", ["/dev/zero", None])
def test_files_without_an_end_are_not_read(name, target, folder):
    (folder / name).unlink()
    os.mkfifo(folder / name) if target is None else (folder / name).symlink_to(target)
    with pytest.raises(CheckpointError):
        AdaLoraModel.from_pretrained(torch.nn.Linear(2, 2), folder)
