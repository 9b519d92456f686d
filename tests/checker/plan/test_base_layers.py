"""Layers of an adapter are found in a base model whose names differ, and not guessed."""

from __future__ import annotations

import pytest

from adalora_core.checker.plan.base_layers import BaseLayers
from adalora_core.checker.plan.header import TensorInfo
from adalora_core.checker.plan.modules import BaseModel, modules_of
from adalora_core.floor.module_selection import ModuleSelection


def base(*paths: str) -> BaseLayers:
    tensors = {f"{path}.weight": TensorInfo("F32", (8, 4)) for path in paths}
    return BaseLayers(BaseModel(tensors, modules_of(tensors)))


ABSENT: dict[str, tuple[list[str], list[str], bool, list[str]]] = {
    # Paths of the base, paths of the adapter, whether targets are named, what is missing.
    "a prefix": (["h.0.a", "h.1.a", "h.2.a"], ["model.h.0.a", "model.h.2.a"], False, ["h.1.a"]),
    "another layer": (["h.0.a", "h.1.a", "h.2.a"], ["h.0.a", "h.1.a"], True, []),
    "a kind": (["h.0.a", "h.0.b"], ["h.0.a"], True, ["h.0.b"]),
    "a kind, all-linear": (["h.0.a", "h.0.b"], ["h.0.a"], False, []),
    "experts": (["h.0.a", "h.0.experts.0.b"], ["h.0.a"], True, []),
    "renamed": (["h.0.a", "h.0.old"], ["h.0.a", "h.0.new"], True, []),
    "a head": (["h.0.a", "head"], ["h.0.a", "other"], True, []),
    "two stacks": (["e.h.0.a", "d.h.0.a"], ["e.h.0.a"], True, []),
    "two named stacks": (["e.h.0.a", "d.h.0.a", "d.h.0.b"], ["e.h.0.a", "d.h.0.b"], True,
                         ["d.h.0.a"]),
    "a stack that the class leaves out": (["t.h.0.a", "v.h.0.a", "v.h.0.b"], ["h.0.a"], True, []),
    "a kind of a named stack": (["t.h.0.a", "v.h.0.a", "v.h.0.b"], ["v.h.0.a"], True, ["v.h.0.b"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ABSENT)
def test_absent_targets_are_those_that_the_model_surely_has(name: str) -> None:
    of_base, known, by_name, expected = ABSENT[name]
    selection = ModuleSelection(".*") if by_name else None
    assert list(base(*of_base).absent(known, selection)) == expected


ONE: dict[str, tuple[list[str], str, str | None]] = {
    "itself": (["t.h.0.a", "v.h.0.a"], "v.h.0.a", "v.h.0.a"),
    "a prefix": (["h.0.a"], "model.h.0.a", "h.0.a"),
    "names in another order": (["text.m.h.0.a", "vision.h.0.a"], "m.text.h.0.a", "text.m.h.0.a"),
    "two as near": (["t.h.0.a", "v.h.0.a"], "h.0.a", None),
    "another layer": (["h.0.a"], "h.1.a", None),
    "no list": (["head"], "model.head", "head"),
}


@pytest.mark.parametrize("name", ONE)
def test_one_layer_is_the_nearest_or_none(name: str) -> None:
    of_base, path, expected = ONE[name]
    assert base(*of_base).one(path, 4, 8) == base(*of_base).one(path, 8, 4) == expected
    assert base(*of_base).one(path, 5, 8) is None
