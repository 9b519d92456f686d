"""Approximate rules on two or three numbers in JSON Schema, which cannot compare numbers.

A ladder of constants replaces the comparison. Every rung follows from the exact rule, so no legal
configuration is rejected. The closer values are to rungs, the more illegal ones are rejected.
`adalora check` applies the exact rules.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from adalora_core.contract.fields.table import FIELDS
from adalora_core.contract.schemas.conditions import when_allocated

RANK_RUNGS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""The usual ranks: equal ranks are rejected exactly at these values."""

STEP_EDGES = (
    10,
    20,
    50,
    *(scale * part for scale in (10, 100, 1000) for part in (10, 15, 20, 30, 50, 70)),
    *(10_000 * part for part in (10, 15, 20, 30, 50, 100)),
)
"""Edges of the cells of total_step, dense at usual values; beyond the last nothing is rejected."""

WARM_UP_PARTS = (0.25, 0.5, 0.75)
"""Positions of the rungs for tinit in a cell. With the edges above about half of the illegal
schedules drawn at random are rejected, the best result found for a file below 30 kB."""


def rank_ladder() -> list[dict[str, Any]]:
    """Return the rungs for init_r > target_r, with the defaults of absent keys.

    The rungs apply to runs that allocate: PEFT loads a saved adapter with equal ranks.
    """
    default_init, default_target = FIELDS["init_r"].default, FIELDS["target_r"].default
    rungs = []
    for rank in RANK_RUNGS:
        then = _bound("init_r", exclusiveMinimum=rank)
        if default_init <= rank:
            then["required"] = ["init_r"]
        rungs.append({"if": _present("target_r", minimum=rank), "then": then})
    rungs.append(
        {
            "if": _present("init_r", maximum=default_target),
            "then": {"properties": {"target_r": True}, "required": ["target_r"]},
        }
    )
    return [when_allocated({"allOf": rungs})]


def schedule_ladder(definitions: str) -> list[dict[str, Any]]:
    """Return the rungs for tinit + tfinal < total_step, one entry per cell of total_step.

    In a cell total_step is at most `edge`, so tinit >= a implies tfinal < edge - a, and tfinal is
    below every edge from edge - a on. The keyword `definitions` holds the shared `bounds()`.
    """
    cells = []
    for below, edge in pairwise((0, *STEP_EDGES)):
        rungs = {0: edge}
        for part in WARM_UP_PARTS:
            warm_up = _edge_at_least(part * edge)
            if warm_up < edge:
                rungs[warm_up] = _edge_at_least(edge - warm_up)
        tree: dict[str, Any] = {}
        for (_, final), upper in reversed(
            list(zip(rungs.items(), [*rungs, edge][1:], strict=True))
        ):
            tree = {
                "if": _reference(definitions, "tinit", upper),
                "then": _reference(definitions, "tfinal", final),
                **({"else": tree} if tree else {}),
            }
        inside = _bound("total_step", exclusiveMinimum=below, maximum=edge)
        cells.append({"if": inside, "then": tree})
    return cells


def bounds() -> dict[str, Any]:
    """Return the definitions of the schedule's ladder: a number below an edge."""
    return {
        _name(name, edge): {"type": "object", "properties": {name: bound}}
        for edge in STEP_EDGES
        for name, bound in (
            # A negative tinit leaves room for more of tfinal.
            ("tinit", {"type": "number", "minimum": 0, "exclusiveMaximum": edge}),
            # To Python true is a number, in JSON it is none.
            ("tfinal", {"not": {"type": "number", "minimum": edge}}),
        )
    }


def _edge_at_least(value: float) -> int:
    return next(edge for edge in STEP_EDGES if edge >= value)


def _name(field: str, edge: int) -> str:
    """Name the bound of a field below an edge, in characters that need no escape in a reference."""
    return f"{field}-{edge}"


def _reference(definitions: str, field: str, edge: int) -> dict[str, Any]:
    return {"$ref": f"#/{definitions}/{_name(field, edge)}"}


def _bound(name: str, **keywords: int) -> dict[str, Any]:
    """Bound a field if it is present; ajv's strict mode requires the type beside a bound."""
    return {"properties": {name: {"type": "number", **keywords}}}


def _present(name: str, **keywords: int) -> dict[str, Any]:
    return {**_bound(name, **keywords), "required": [name]}
