"""Generate the JSON Schemas of a configuration from the field table.

The schemas use only keywords with the same meaning in draft-07 and in 2020-12, and no keywords of
their own, so that strict validators (ajv) compile them. Under the runtime `peft` the engine rejects
everything that a schema rejects. The engine rejects more: `docs/contract.md` lists the gaps.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from adalora_core.contract.fields import value_kinds as kinds
from adalora_core.contract.fields.table import FIELDS, PEFT_VERSION, Field, Treatment
from adalora_core.contract.schemas.ids import schema_id
from adalora_core.contract.schemas.ladder import bounds, rank_ladder, schedule_ladder

Draft = Literal["2020-12", "draft-07"]
DRAFTS: dict[Draft, str] = {
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft-07": "http://json-schema.org/draft-07/schema#",
}
FILES: dict[Draft, str] = {
    "2020-12": "adalora-config.schema.json",
    "draft-07": "adalora-config.draft-07.schema.json",
}

VERSION = "1.0"
"""A minor release only loosens or annotates; a schema that rejects more is a new major release."""


def config_schema(draft: Draft = "2020-12", *, strict_keys: bool = False) -> dict[str, Any]:
    """Return the schema of an AdaLoRA configuration.

    Args:
        draft: the dialect; the two schemas differ in `$schema` and `$id` only.
        strict_keys: reject keys that PEFT does not know, as `--strict-keys` does.

    Raises:
        ValueError: the draft is unknown.

    Example:
        >>> config_schema()["properties"]["deltaT"]["minimum"]
        1
    """
    if draft not in DRAFTS:
        raise ValueError(f"draft: expected {' or '.join(DRAFTS)}, got {draft!r}")
    schema: dict[str, Any] = {
        "$schema": DRAFTS[draft],
        "$id": schema_id("adalora-config", VERSION, FILES[draft]),
        "title": "AdaLoRA configuration",
        "description": (
            f"The fields of AdaLoraConfig of PEFT {PEFT_VERSION}, and what breaks PEFT at load or "
            "in the middle of a training run. Rules that JSON Schema cannot state exactly are "
            "approximated here and exact in `adalora check`."
        ),
        "type": "object",
        # An editor reads its schema from this key; PEFT drops it.
        "properties": {"$schema": {"type": "string"}}
        | {name: _property(field) for name, field in FIELDS.items()},
        "required": ["total_step"],
        "allOf": [entry for _, entry in [*conflicts(), *ladders()]],
        "$defs": bounds(),
    }
    if strict_keys:
        schema["additionalProperties"] = False
    return schema


def to_text(schema: dict[str, Any]) -> str:
    """Return a schema as the text of its file under `schemas/`.

    Each property and each rung is one line, so that the file is small and differences are readable.
    """
    open_parts = {
        "properties": dict.fromkeys(schema["properties"], None),
        "allOf": [None] * len(schema["allOf"]),
        "$defs": dict.fromkeys(schema["$defs"], None),
    }
    lines = iter(
        json.dumps(entry, separators=(",", ":"), ensure_ascii=False)
        for entry in (*schema["properties"].values(), *schema["allOf"], *schema["$defs"].values())
    )
    body = json.dumps(schema | open_parts, indent=1, ensure_ascii=False)
    return re.sub(r"null(?=,?\n)", lambda _: next(lines), body) + "\n"


def _property(field: Field) -> dict[str, Any]:
    alternatives = [dict(shape.schema) for shape in field.kinds]
    if field.choices is not None:
        # `enum` covers the type as well; null stays one of the values where it is allowed.
        nullable = kinds.NULL in field.kinds
        body: dict[str, Any] = {"enum": [*field.choices, *([None] if nullable else [])]}
    elif field.name == "use_dora":
        body = {"const": False}
    elif field.name == "rank_pattern":
        body = {"type": ["object", "null"], "additionalProperties": dict(kinds.BOOLEANS.schema)}
    elif field.name == "total_step":
        # Null is never right here: in a saved adapter it breaks PEFT too.
        body = {"type": "integer", "exclusiveMinimum": 0}
    elif len(alternatives) == 1 or _is_nullable_type(alternatives):
        types = [alternative["type"] for alternative in alternatives]
        body = alternatives[0] if len(types) == 1 else {"type": types}
    else:
        body = {"anyOf": alternatives}
    bounds = (
        ("minimum", field.least),
        ("exclusiveMinimum", field.above),
        ("exclusiveMaximum", field.below),
    )
    body |= {keyword: bound for keyword, bound in bounds if bound is not None}
    text = field.summary
    if field.treatment is Treatment.IGNORED:
        text += " AdaLoRA ignores it."
    body["description"] = text
    if field.name != "total_step":
        body["default"] = field.fresh_default()
    return body


def _is_nullable_type(alternatives: list[dict[str, Any]]) -> bool:
    """Return whether the types are one plain type and null, the only union in ajv's strict mode."""
    plain = all(list(alternative) == ["type"] for alternative in alternatives)
    return plain and len(alternatives) == 2 and alternatives[-1]["type"] == "null"  # noqa: PLR2004


def ladders() -> list[tuple[str, dict[str, Any]]]:
    """Return the schemas that approximate rules on several numbers, with the codes of the rules."""
    return [
        *(("ADA301", rung) for rung in rank_ladder()),
        *(("ADA202", cell) for cell in schedule_ladder()),
    ]


def conflicts() -> list[tuple[str, dict[str, Any]]]:
    """Return the schemas of fields that exclude each other, with the codes of the rules."""

    def is_set(name: str, value: dict[str, Any]) -> dict[str, Any]:
        return {"properties": {name: value}, "required": [name]}

    def then(**properties: Any) -> dict[str, Any]:
        return {"properties": properties}

    null = {"type": "null"}
    not_empty = {"type": "array", "minItems": 1}
    return [
        ("ADA421", {"not": is_set("target_modules", {"enum": [[], ""]})}),
        ("ADA402", {"not": is_set("init_lora_weights", {"const": "loftq"})}),
        (
            "ADA403",
            {
                "if": is_set("target_modules", {"type": "string"}),
                "then": then(layers_to_transform=null, layers_pattern=null),
            },
        ),
        (
            "ADA404",
            {
                "if": is_set(
                    "layers_pattern", {"anyOf": [{"type": "string", "minLength": 1}, not_empty]}
                ),
                "then": is_set("layers_to_transform", {"not": null}),
            },
        ),
        ("ADA409", {"not": is_set("target_parameters", not_empty)}),
        (
            "ADA408",
            {
                "if": is_set("task_type", {"const": "CAUSAL_LM"}),
                "then": {"not": is_set("alora_invocation_tokens", not_empty)},
            },
        ),
        (
            "ADA418",
            {
                "if": is_set("lora_bias", {"const": True}),
                "then": then(init_lora_weights={"type": "boolean"}),
            },
        ),
    ]
