"""State in JSON Schema when a fault counts: what the rules ask before they call it an error."""

from __future__ import annotations

from typing import Any

INTEGER = {"type": "integer"}

EMPTY: tuple[Any, ...] = (False, None, 0, "", [], {})
"""The values that Python takes for false."""

TRAINS: dict[str, Any] = {"properties": {"inference_mode": {"enum": [*EMPTY]}}}
"""The configuration of a run."""

SAVED: dict[str, Any] = {
    "properties": {"inference_mode": {"not": {"enum": [*EMPTY]}}},
    "required": ["inference_mode"],
}
"""The configuration of a saved adapter, which PEFT loads whatever its training was."""


def _unset(name: str, default: int) -> dict[str, Any]:
    return {"properties": {name: {"const": default}}}


ENDS: dict[str, Any] = {
    "properties": {"tfinal": {**INTEGER, "minimum": 1}},
    "required": ["tfinal"],
}
"""There is a final phase, and so a selection at its start."""

STARTS: dict[str, Any] = {
    "properties": {"total_step": {**INTEGER, "minimum": 2}, "tinit": {"const": 0}},
    "required": ["total_step"],
}
"""A run without a final phase that goes on after its warm-up; there are more such runs."""

ALLOCATES: dict[str, Any] = {
    "anyOf": [ENDS, {"allOf": [STARTS, _unset("deltaT", 1)]}],
}
"""Some step chooses the kept triplets; there are more such runs."""

DIVIDES: dict[str, Any] = {"anyOf": [ENDS, STARTS]}
"""Some step is divided by deltaT; there are more such runs."""


def when_trained(assertion: dict[str, Any]) -> dict[str, Any]:
    """Return the assertion for configurations that train."""
    return {"if": TRAINS, "then": assertion}


def when_allocated(assertion: dict[str, Any]) -> dict[str, Any]:
    """Return the assertion for runs in which some step chooses the kept triplets."""
    return when_trained({"if": ALLOCATES, "then": assertion})
