"""Layers of an adapter are found in a base model whose names differ, and not guessed."""

from __future__ import annotations

import pytest

from adalora_core.checker.plan.header import TensorInfo
from adalora_core.checker.plan.modules import BaseLayers, BaseModel, modules_of


def base(*paths: str) -> BaseLayers:
    tensors = {f"{path}.weight": TensorInfo("F32", (8, 4)) for path in paths}
    return BaseLayers(BaseModel(tensors, modules_of(tensors)))


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
