"""Find the layer in the file of a base model that a module of an adapter is for.

Names of a base model's weights are not always those of its modules: a class adds a prefix, and
transformers renames. So paths are compared from the name of their first list on, `layers.0.q_proj`,
and only where both have layers of that kind.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from adalora_core.checker.plan.costs import starred

if TYPE_CHECKING:
    from adalora_core.checker.plan.modules import BaseModel, Module


class BaseLayers:
    """The layers of a base model, by the kinds and the ends of their paths."""

    def __init__(self, model: BaseModel) -> None:
        self._model = model
        self._of_kind: defaultdict[str, defaultdict[str, list[Module]]]
        self._of_kind = defaultdict(lambda: defaultdict(list))
        for path, module in model.modules.items():
            if module.kind != "other":
                self._of_kind[_kind(path)][_split(path)[1]].append(module)

    def knows(self, path: str) -> bool:
        """Return whether the model has a layer of this kind, whatever its number."""
        return _kind(path) in self._of_kind

    def at(self, path: str) -> list[Module]:
        """Return the layers that a path may mean."""
        return self._of_kind[_kind(path)].get(_split(path)[1], []) if self.knows(path) else []

    def one(self, path: str, inputs: int, outputs: int) -> str | None:
        """Return the path of the one layer for a module of some sizes, None if two are as near."""
        names = {*_split(path)[0].split(".")}
        near = defaultdict[tuple[int, int], list[str]](list)
        for each in self.at(path):
            if self.fits(each, inputs, outputs):
                stem = _split(each.path)[0].split(".")
                near[len(names.intersection(stem)), -len(stem)].append(each.path)
        best = near[max(near)] if near else []
        return best[0] if len(best) == 1 else None

    def fits(self, module: Module, inputs: int, outputs: int) -> bool:
        """Return whether a layer can have factors for so many inputs and outputs."""
        is_head = self._model.is_output_head(module)  # its vocabulary may have been resized
        if module.kind in {"packed", "embedding"} or is_head:
            return True
        if module.kind == "convolution":  # a group of it holds a part of the inputs
            return outputs == module.outputs and not inputs % max(1, module.inputs)
        # The factors of an embedding are those of its transpose.
        sizes = module.inputs, module.outputs
        return (inputs, outputs) in {sizes, sizes[::-1]}


def _split(path: str) -> tuple[str, str]:
    """Return a path before and from the name of its first list, `model` and `layers.0.q_proj`."""
    parts = path.split(".")
    first = next((place for place, part in enumerate(parts) if part.isdecimal()), len(parts))
    begin = max(0, first - 1)
    return ".".join(parts[:begin]), ".".join(parts[begin:])


def _kind(path: str) -> str:
    return starred(_split(path)[1])


def layer_of(path: str) -> int:
    """Return the first number in a path, -1 without one."""
    found = re.search(r"(?<![^.])\d{1,9}(?![^.])", path)
    return int(found[0]) if found else -1
