"""The examples in the docstrings of the contract run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import adalora_core.checker

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(adalora_core.checker.__path__, "adalora_core.checker.")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_print_what_they_show(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found():
    attempted = [doctest.testmod(importlib.import_module(name)).attempted for name in MODULES]
    assert sum(attempted) > 10
