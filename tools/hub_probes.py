"""Probe the Hub in a process whose endpoint is a server on this machine; see file_probes.py."""

from __future__ import annotations

from pathlib import Path

from probe_setting import load, make, need, need_equal, outputs, train
from target_probes import config_of


def push_and_load(library: str) -> None:
    """Push an adapter to a branch; load it, and its configuration, by its id."""
    model = train(make(library))
    for revision in (None, "other"):
        model.push_to_hub("me/adapter", revision=revision)
        need_equal(outputs(load(library, "me/adapter", revision=revision)), outputs(model))
    read = type(model.peft_config["default"]).from_pretrained("me/adapter")
    need(read.init_r == 4, "another configuration")


def card(library: str) -> None:
    """Push a model card with the adapter."""
    from huggingface_hub import hf_hub_download

    make(library).push_to_hub("me/adapter")
    text = Path(hf_hub_download("me/adapter", "README.md")).read_text(encoding="utf-8")
    need("library_name: peft" in text, "the card does not name the library")


def config(library: str) -> None:
    """Push a configuration without weights."""
    config_of(library).push_to_hub("me/adapter")
