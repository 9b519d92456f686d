"""Probe files, options of loading and the Hub; see feature_probes.py."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from probe_setting import (
    BRIDGED,
    Small,
    llama,
    load,
    make,
    need,
    need_equal,
    outputs,
    round_trip,
    train,
)
from target_probes import LANGUAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SUPPORT = Path(__file__).parents[1] / "tests" / "support"


class Renamed(Small):
    """The small model with another name for a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.begin = self._modules.pop("first")

    def __getattr__(self, name: str) -> Any:
        """Find the layer under its old name too."""
        if name == "first":
            name = "begin"
        return super().__getattr__(name)


@contextlib.contextmanager
def saved(library: str, **options: Any) -> Iterator[tuple[Path, torch.Tensor]]:
    """Save a trained adapter; give its folder and its outputs."""
    model = train(make(library))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, **options)
        yield Path(folder), outputs(model)


def loads_with(**options: Any) -> Callable[[str], None]:
    """Return a probe that loads with `options`."""

    def run(library: str) -> None:
        round_trip(library, train(make(library)), **options)

    return run


def pickled(library: str) -> None:
    """Write weights with torch.save."""
    with saved(library, safe_serialization=False) as (folder, expected):
        need((folder / "adapter_model.bin").exists(), "no pickle is written")
        need_equal(outputs(load(library, folder)), expected)


def reads_pickled(library: str) -> None:
    """Read weights that PEFT has written with torch.save."""
    with saved("peft", safe_serialization=False) as (folder, expected):
        need_equal(outputs(load(library, folder)), expected)


def with_embeddings(library: str) -> None:
    """Save the embeddings of the base model beside the adapter."""
    from safetensors import safe_open

    model = make(library, llama(), **LANGUAGE)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, save_embedding_layers=True)
        with safe_open(Path(folder, "adapter_model.safetensors"), "pt") as tensors:
            names = list(tensors.keys())
    need(any("embed_tokens" in name for name in names), "the embeddings are not saved")


def renamed_layers(library: str) -> None:
    """Load an adapter whose layers have other names in this base model."""
    with saved(library) as (folder, expected):
        mapping = {r"\.first\.": ".begin."}
        config = importlib.import_module(library).AdaLoraConfig.from_pretrained(folder)
        config.target_modules = ["begin", "second"]
        config.rank_pattern = {
            name.replace("first", "begin"): kept for name, kept in config.rank_pattern.items()
        }
        found = load(library, folder, Renamed(), key_mapping=mapping, config=config)
        need_equal(outputs(found), expected)


def other_sizes(library: str) -> None:
    """Load what fits of an adapter for a base model of other sizes."""
    model = make(library, modules_to_save=["head"])
    wider = Small()
    wider.head = torch.nn.Linear(8, 3)
    with tempfile.TemporaryDirectory() as folder:
        train(model).save_pretrained(folder)
        load(library, folder, wider, ignore_mismatched_sizes=True)


def with_config(library: str) -> None:
    """Load with a configuration of one's own."""
    with saved(library) as (folder, expected):
        config = importlib.import_module(library).AdaLoraConfig.from_pretrained(folder)
        need_equal(outputs(load(library, folder, config=config)), expected)


def without_total_step(library: str) -> None:
    """Load an adapter whose file has no total_step."""
    import json

    with saved(library) as (folder, expected):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "total_step": None}))
        need_equal(outputs(load(library, folder)), expected)


def other_method(library: str) -> None:
    """Load an adapter of LoRA."""
    peft = importlib.import_module("peft")
    with tempfile.TemporaryDirectory() as folder:
        config = peft.LoraConfig(target_modules=["first"])
        peft.get_peft_model(Small(), config).save_pretrained(folder)
        load(library, folder)


def on_meta(library: str) -> None:
    """Leave the factors on the meta device until they are loaded."""
    from target_probes import config_of

    module = importlib.import_module(library)
    model = module.get_peft_model(Small(), config_of(library), low_cpu_mem_usage=True)
    factors = [p for name, p in model.named_parameters() if ".lora_A." in name]
    need(all(p.is_meta for p in factors), "the factors are made at once")


def subfolder(library: str) -> None:
    """Load from a folder inside a folder."""
    with saved(library) as (folder, expected):
        found = load(library, folder.parent, subfolder=folder.name)
        need_equal(outputs(found), expected)


def selected(library: str) -> None:
    """Save one adapter of two."""
    model = make(library)
    model.add_adapter("other", copy.deepcopy(frozen_config(library)))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, selected_adapters=["other"])
        need((Path(folder) / "other" / "adapter_config.json").exists(), "not saved")
        need(not (Path(folder) / "adapter_config.json").exists(), "both are saved")


def frozen_config(library: str) -> Any:
    """Return a configuration of an adapter that does not learn."""
    from target_probes import config_of

    return config_of(library, inference_mode=True)


def deep_copy(library: str) -> None:
    """Copy a model, and write a whole model with torch.save."""
    model = train(make(library))
    need_equal(outputs(copy.deepcopy(model)), outputs(model))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    need_equal(outputs(torch.load(buffer, weights_only=False)), outputs(model))


# --- the Hub --------------------------------------------------------------------------------------


HUB_SCRIPT = """
import sys
sys.path[:0] = [{tools!r}]
{bridge}
from hub_probes import {name}
{name}({library!r})
"""


def on_a_hub(name: str) -> Callable[[str], None]:
    """Return a probe that runs `name` of hub_probes.py beside a Hub on this machine."""

    def run(library: str) -> None:
        sys.path.insert(0, str(SUPPORT))
        from hub_server import serving

        with serving() as hub, tempfile.TemporaryDirectory() as home:
            variables = {
                **os.environ,
                "HF_ENDPOINT": hub.endpoint,
                "HF_HOME": home,
                "HF_HUB_OFFLINE": "0",
                "HF_TOKEN": "token",
            }
            bridge = "import adalora_core.peft" if BRIDGED else ""
            script = HUB_SCRIPT.format(
                tools=str(Path(__file__).parent), name=name, library=library, bridge=bridge
            )
            done = subprocess.run(  # noqa: S603 - a script of this repository
                [sys.executable, "-P", "-c", script],
                env=variables,
                capture_output=True,
                text=True,
                check=False,
            )
        need(
            done.returncode == 0,
            (done.stderr.strip().splitlines() or ["failed"])[-1].partition(": ")[2],
        )

    return run
