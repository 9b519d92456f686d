"""Hold one drawn configuration, and make smaller ones of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

ABSENT = "<absent>"
"""The value of a change that removes its key."""

Change = tuple[str, Any]


@dataclass(frozen=True)
class Case:
    """A configuration, and the model that it is for.

    Attributes:
        base: name of the base model.
        kind: whether the configuration is for training or that of a saved adapter.
        adapter: name of the saved adapter, whose weights the folder holds.
        sound: a configuration that runs.
        changes: the steps away from it.
    """

    base: str
    kind: Literal["training", "adapter"]
    sound: dict[str, Any]
    changes: tuple[Change, ...]
    adapter: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """The content of the file."""
        values = self.sound | dict(self.changes)
        return {name: value for name, value in values.items() if value is not ABSENT}

    @property
    def is_lora(self) -> bool:
        """Whether the sound configuration is one of LoRA."""
        return bool(self.sound.get("peft_type") == "LORA")

    @property
    def text(self) -> str:
        """The file, as Python writes JSON: numbers that are not finite included."""
        return json.dumps(self.values)

    @property
    def fields(self) -> frozenset[str]:
        """Names of the changed fields."""
        return frozenset(name for name, _ in self.changes)

    def smaller(self) -> Iterator[Case]:
        """Yield cases with one change less, or with one sound value less."""
        for index in range(len(self.changes)):
            yield replace(self, changes=self.changes[:index] + self.changes[index + 1 :])
        if self.kind == "training":
            for name in self.sound:
                if name != "peft_type" and name not in self.fields:
                    yield replace(self, sound={k: v for k, v in self.sound.items() if k != name})


def minimised(case: Case, disagrees: Callable[[Case], bool], most: int = 60) -> Case:
    """Return the smallest case found from `case` for which `disagrees` still holds."""
    tried = 0
    found = True
    while found:
        found = False
        for smaller in case.smaller():
            tried += 1
            if tried > most:
                return case
            if disagrees(smaller):
                case, found = smaller, True
                break
    return case
