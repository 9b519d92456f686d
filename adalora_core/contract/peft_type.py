"""Show the method of a configuration as PEFT does: a string that is also an enumeration."""

from __future__ import annotations

import enum
from typing import Any


class PeftType(str, enum.Enum):  # noqa: UP042 - another `str()`, which PEFT reads
    """The method, as PEFT's class of the same name: PEFT reads `value`, and the text of `str`."""

    ADALORA = "ADALORA"


class ShownPeftType:
    """The attribute `peft_type` of a configuration, which stores a plain string."""

    def __get__(self, config: Any, owner: type | None = None) -> PeftType:
        """Return the method."""
        if config is None:
            # For pydantic, which collects fields from the attributes of a class.
            raise AttributeError("peft_type")
        return PeftType(config.__dict__["peft_type"])

    def __set__(self, config: Any, value: str) -> None:
        """Store the method."""
        config.__dict__["peft_type"] = str.__str__(value)
