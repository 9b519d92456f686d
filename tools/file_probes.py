"""Probe files, options of loading and the Hub; see feature_probes.py."""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probe_setting import (
    Small,
    load,
    make,
    need_equal,
    outputs,
    train,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


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


def without_total_step(library: str) -> None:
    """Load an adapter whose file has no total_step."""
    import json

    with saved(library) as (folder, expected):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "total_step": None}))
        need_equal(outputs(load(library, folder)), expected)


def frozen_config(library: str) -> Any:
    """Return a configuration of an adapter that does not learn."""
    from target_probes import config_of

    return config_of(library, inference_mode=True)
