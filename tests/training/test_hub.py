"""Adapters of the Hub: read by id, pushed with a card, from a local server or a cache folder."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import yaml
from adalora_runs import make, train
from hub_server import serving
from programs import output_of_python
from toy_models import TwoLayer, two_layer_batch

from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model
from adalora_core.floor.errors import CheckpointError
from adalora_core.training.adapter_file.folder import CONFIG_NAME, WEIGHTS_NAME

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ID = "me/adapter"
STEPS = 12
SCHEDULE = {"init_r": 6, "target_r": 3, "tinit": 2, "tfinal": 3, "total_step": STEPS}


def base() -> TwoLayer:
    torch.manual_seed(0)
    return TwoLayer()


def adapter(steps: int = STEPS) -> Any:
    model = make("adalora_core", base(), **SCHEDULE)
    train(model, range(steps))
    return model


def outputs(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(two_layer_batch(99)["x"]).logits


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache of the Hub that holds one adapter under two branches."""
    return tmp_path / "cache"


def cached(
    cache: Path, model: Any, subfolder: str = "", revision: str = "main", **saving: Any
) -> None:
    """Put an adapter into the cache as `huggingface_hub` does."""
    place = cache / "models--me--adapter"
    snapshot = place / "snapshots" / COMMIT
    model.save_pretrained(snapshot / subfolder, **saving)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / revision).write_text(COMMIT)


def load(cache: Path, model_id: Any = ID, **options: Any) -> AdaLoraModel:
    return AdaLoraModel.from_pretrained(
        base(), model_id, cache_dir=cache, local_files_only=True, **options
    )


class TestReading:
    def test_an_id_is_found_in_the_cache(self, cache: Path) -> None:
        model = adapter()
        cached(cache, model)
        assert torch.equal(outputs(load(cache)), outputs(model))

    def test_by_subfolder_and_revision(self, cache: Path) -> None:
        model = adapter()
        cached(cache, model, "in/here", "other")
        loaded = load(cache, subfolder="in/here", revision="other")
        assert torch.equal(outputs(loaded), outputs(model))
        with pytest.raises(CheckpointError, match="neither a folder here nor an adapter"):
            load(cache, revision="other")

    def test_folder_that_is_not_there_is_named_behind_the_answer_of_the_hub(
        self, cache: Path
    ) -> None:
        with pytest.raises(CheckpointError) as caught:
            load(cache, "nope_dir")
        last = str(caught.value).splitlines()[-1]
        assert last == (
            f"If a folder was meant: there is none at {str(Path('nope_dir').absolute())!r}; "
            "correct the path"
        )

    def test_a_run_goes_on_with_its_training_state(self, cache: Path) -> None:
        cached(cache, adapter(steps=5), save_training_state=True)
        resumed = load(cache, is_trainable=True)
        assert resumed.base_model.adapters["default"].allocator.last_step == 4

    def test_weights_in_the_old_format(self, cache: Path) -> None:
        model = adapter()
        cached(cache, model)
        folder = cache / "models--me--adapter" / "snapshots" / COMMIT
        tensors = peft.load_peft_weights(str(folder), device="cpu")
        torch.save(tensors, folder / "adapter_model.bin")
        (folder / WEIGHTS_NAME).unlink()
        assert torch.equal(outputs(load(cache)), outputs(model))

    def test_into_a_model_that_has_adapters(self, cache: Path) -> None:
        cached(cache, adapter())
        model = make("adalora_core", base(), **SCHEDULE)
        model.load_adapter(ID, "second", cache_dir=cache, local_files_only=True)
        model.set_adapter("second")
        assert torch.equal(outputs(model), outputs(adapter()))

    @pytest.mark.parametrize("model_id", ["a/b/c", "./adapter", "/adapter", "no such", Path("a/b")])
    def test_what_is_no_id_never_asks_the_hub(
        self, model_id: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
        with pytest.raises(CheckpointError, match="is not there"):
            load(cache, model_id)

    def test_a_folder_here_comes_first(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model = adapter()
        monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
        monkeypatch.chdir(cache.parent)
        model.save_pretrained(Path(ID) / "in")
        assert torch.equal(outputs(load(cache, ID, subfolder="in")), outputs(model))
        with pytest.raises(CheckpointError, match="adapter_config"):
            load(cache, ID)

    def test_without_huggingface_hub_it_names_the_package(
        self, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
        with pytest.raises(CheckpointError, match="pip install huggingface_hub"):
            load(cache)

    def test_an_unknown_option_is_refused_for_folders_too(self, tmp_path: Path) -> None:
        adapter().save_pretrained(tmp_path)
        with pytest.raises(TypeError, match="sub_folder"):
            AdaLoraModel.from_pretrained(base(), tmp_path, sub_folder="in")


class TestOptions:
    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        adapter().save_pretrained(tmp_path)
        return tmp_path

    def test_a_given_configuration_replaces_the_file(self, saved: Path) -> None:
        values = json.loads((saved / CONFIG_NAME).read_text())
        (saved / CONFIG_NAME).unlink()
        config = AdaLoraConfig(**values)
        loaded = AdaLoraModel.from_pretrained(base(), saved, config=config)
        assert torch.equal(outputs(loaded), outputs(adapter()))
        assert config.to_json_dict() == values

    def test_those_that_change_nothing_are_accepted(self, saved: Path) -> None:
        loaded = AdaLoraModel.from_pretrained(
            base(),
            saved,
            torch_device="cpu",
            low_cpu_mem_usage=True,
            ephemeral_gpu_offload=False,
            key_mapping=None,
        )
        loaded.load_adapter(saved, "second", False, "cpu")
        assert torch.equal(outputs(loaded), outputs(adapter()))

    @pytest.mark.parametrize(
        "option", [{"key_mapping": {"a": "b"}}, {"ignore_mismatched_sizes": True}]
    )
    def test_those_that_would_load_something_else_are_refused(
        self, option: dict[str, Any], saved: Path
    ) -> None:
        with pytest.raises(ValueError, match=f"{next(iter(option))} is not supported"):
            AdaLoraModel.from_pretrained(base(), saved, **option)

    def test_get_peft_model_has_pefts_arguments(self, tmp_path: Path) -> None:
        config = AdaLoraConfig(target_modules=["first"], **SCHEDULE)
        model = get_peft_model(base(), config, "default", False, True, "v2", True)
        assert not any(each.is_meta for each in model.parameters())
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / CONFIG_NAME).read_text())["revision"] == "v2"
        with pytest.raises(ValueError, match="PeftMixedModel"):
            get_peft_model(base(), config, mixed=True)


def metadata(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


class TestCard:
    def test_it_describes_the_adapter(self, tmp_path: Path) -> None:
        config = {"base_model_name_or_path": "someone/model", "task_type": "CAUSAL_LM"}
        make("adalora_core", base(), **SCHEDULE, **config).save_pretrained(tmp_path)
        assert metadata(tmp_path) == {
            "base_model": "someone/model",
            "library_name": "peft",
            "pipeline_tag": "text-generation",
            "tags": ["adalora", "base_model:adapter:someone/model"],
        }
        assert "# AdaLoRA adapter for someone/model" in (tmp_path / "README.md").read_text()

    def test_the_path_of_a_folder_is_not_published(self, tmp_path: Path) -> None:
        model = make("adalora_core", base(), **SCHEDULE, base_model_name_or_path=str(tmp_path))
        model.save_pretrained(tmp_path)
        assert str(tmp_path) not in (tmp_path / "README.md").read_text()

    def test_what_somebody_wrote_stays(self, tmp_path: Path) -> None:
        written = "---\nlicense: mit\ntags: [mine]\npipeline_tag: other\n---\n# My adapter\n"
        (tmp_path / "README.md").write_text(written)
        adapter().save_pretrained(tmp_path)
        assert (tmp_path / "README.md").read_text().endswith("---\n# My adapter\n")
        found = metadata(tmp_path)
        assert (found["license"], found["pipeline_tag"]) == ("mit", "other")
        assert found["tags"] == ["mine", "adalora"]

    @pytest.mark.parametrize("text", ["---\n[\n---\ntext", "---\n- a list\n---\ntext"])
    def test_one_that_cannot_be_read_stays_as_it_is(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text(text)
        adapter().save_pretrained(tmp_path)
        assert (tmp_path / "README.md").read_text() == text

    def test_a_second_save_changes_nothing(self, tmp_path: Path) -> None:
        model = adapter()
        model.save_pretrained(tmp_path)
        before = (tmp_path / "README.md").stat()
        model.save_pretrained(tmp_path)
        after = (tmp_path / "README.md").stat()
        # Not the time of reading, which may pass a full second between the two.
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


PUSHING = """
    import sys
    import torch
    from adalora_core import AdaLoraConfig, AdaLoraModel, get_peft_model

    def base():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 4))

    config = AdaLoraConfig(init_r=4, target_r=2, total_step=9, target_modules=["0"])
    model = get_peft_model(base(), config)
    model.push_to_hub("me/adapter", token="hf_mine", commit_message="First", tags=["mine"])
    model.push_to_hub("me/adapter", revision="branch")
    model.push_to_hub("me/adapter", create_pr=True)
    x = torch.ones(1, 4)
    for options in ({}, {"revision": "branch"}, {"is_trainable": True}, {"local_files_only": True}):
        loaded = AdaLoraModel.from_pretrained(base(), "me/adapter", **options)
        print(torch.equal(loaded.eval()(x), model.eval()(x)))
"""


def test_a_push_uploads_the_adapter_and_nothing_else(tmp_path: Path) -> None:
    with serving() as hub:
        hub.files["me/adapter", "main"] = {"README.md": b"---\nlicense: mit\n---\nMine\n"}
        variables = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }
        printed = output_of_python("-c", textwrap.dedent(PUSHING), variables=variables)
    assert printed.splitlines() == ["True"] * 4
    assert {"Bearer hf_mine"} <= hub.tokens
    assert [(each["summary"], each["create_pr"]) for each in hub.commits] == [
        ("First", False),
        ("Upload adapter", False),
        ("Upload adapter", True),
    ]
    for branch in ("main", "branch"):
        files = hub.files["me/adapter", branch]
        assert files.keys() == {"README.md", CONFIG_NAME, WEIGHTS_NAME}
    card = hub.files["me/adapter", "main"]["README.md"].decode()
    assert card == "---\nlibrary_name: peft\nlicense: mit\ntags:\n- adalora\n- mine\n---\nMine\n"


def test_peft_reads_what_was_cached(cache: Path) -> None:
    model = adapter()
    cached(cache, model)
    local = shutil.copytree(cache / "models--me--adapter" / "snapshots" / COMMIT, cache / "copy")
    theirs = peft.PeftModel.from_pretrained(base(), str(local))
    assert torch.allclose(outputs(theirs), outputs(model), atol=1e-6)
