"""The examples in the docstrings of the contract, and of what it stands on, run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import adalora_core.checker
import adalora_core.config
import adalora_core.floor

MODULES = [
    name
    for room in (adalora_core.floor, adalora_core.config, adalora_core.checker)
    for _, name, _ in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_print_what_they_show(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found():
    attempted = [doctest.testmod(importlib.import_module(name)).attempted for name in MODULES]
    assert sum(attempted) > 15
