"""Generate the JSON Schemas of a configuration from the field table.

The schemas use only keywords with the same meaning in draft-07 and in 2020-12, and no keywords of
their own, so that strict validators (ajv) compile them. Under the runtime `peft` the engine rejects
everything that a schema rejects. The engine rejects more: `docs/contract/policy.md` lists the gaps.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from adalora_core.config.fields import value_kinds as kinds
from adalora_core.config.fields.readings import FLAGS, NOT_LOADED, UNREAD
from adalora_core.config.fields.table import (
    BIASES,
    LORA,
    PEFT_TYPE,
    PEFT_VERSION,
    Field,
    Method,
    Treatment,
    fields_of,
)

Draft = Literal["2020-12", "draft-07"]
DRAFTS: dict[Draft, str] = {
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft-07": "http://json-schema.org/draft-07/schema#",
}
FILES: dict[Draft, str] = {
    "2020-12": "adalora-config.schema.json",
    "draft-07": "adalora-config.draft-07.schema.json",
}

LORA_FILES: dict[Draft, str] = {
    draft: name.replace("adalora-", "lora-") for draft, name in FILES.items()
}

VERSION = "1.0"
"""A minor release only loosens or annotates; a schema that rejects more is a new major release."""


def schema_id(family: str, version: str, file: str) -> str:
    """Return the `$id` of a published schema.

    The `$id` is a name, not an address: a reader, an editor or a code scanning service is never
    sent to a host that somebody else could own.
    """
    return f"urn:adalora-core:schemas/{family}/{version}/{file}"


def config_schema(
    draft: Draft = "2020-12", *, strict_keys: bool = False, method: Method = PEFT_TYPE
) -> dict[str, Any]:
    """Return the schema of a configuration of a method, in one of two dialects.

    These differ in `$schema` and `$id` only. `strict_keys` rejects keys that PEFT does not know.

    Example:
        >>> config_schema()["properties"]["init_r"]["minimum"]
        1
    """
    if draft not in DRAFTS:
        raise ValueError(f"draft: expected {' or '.join(DRAFTS)}, got {draft!r}")
    is_lora = method == LORA
    name, file = ("LoRA", LORA_FILES[draft]) if is_lora else ("AdaLoRA", FILES[draft])
    of_class = name.replace("LoRA", "Lora") + "Config"
    schema: dict[str, Any] = {
        "$schema": DRAFTS[draft],
        "$id": schema_id(f"{name.lower()}-config", VERSION, file),
        "title": f"{name} configuration",
        "description": (
            f"The fields of {of_class} of PEFT {PEFT_VERSION}, and what breaks PEFT at load or "
            "in the middle of a training run. Rules that JSON Schema cannot state exactly, such as "
            "those of the schedule, are in `adalora check` alone."
        ),
        "type": "object",
        # An editor reads its schema from this key; PEFT drops it.
        "properties": {"$schema": {"type": "string"}}
        | {each.name: _property(each, method) for each in fields_of("peft", method).values()},
        "required": ["peft_type" if is_lora else "total_step"],
        "allOf": [entry for code, entry in conflicts().items() if not is_lora or code in _OF_BOTH],
    }
    if strict_keys:
        schema["additionalProperties"] = False
    return schema


def to_text(schema: dict[str, Any]) -> str:
    """Return a schema as the text of its file under `schemas/`.

    Each property and each rule is one line, so that the file is small and differences are readable.
    """
    open_parts = {
        "properties": dict.fromkeys(schema["properties"], None),
        "allOf": [None] * len(schema["allOf"]),
    }
    lines = iter(
        json.dumps(entry, separators=(",", ":"), ensure_ascii=False)
        for entry in (*schema["properties"].values(), *schema["allOf"])
    )
    body = json.dumps(schema | open_parts, indent=1, ensure_ascii=False)
    return re.sub(r"null(?=,?\n)", lambda _: next(lines), body) + "\n"


_EMPTY: tuple[Any, ...] = (False, None, 0, "", [], {})
"""The values that Python takes for false."""
_IS_SAVED: dict[str, Any] = {
    "properties": {"inference_mode": {"not": {"enum": [*_EMPTY]}}},
    "required": ["inference_mode"],
}
"""The configuration of a saved adapter, which PEFT loads whatever its training was."""

_TRUE = {"const": True}
_NO_NUMBER = {"not": {"anyOf": [_TRUE, {"type": "number", "exclusiveMinimum": 0}]}}
_ARRAY, _OBJECT, _TEXT, _NULL, _FLAG = (
    {"type": name} for name in ("array", "object", "string", "null", "boolean")
)


def _number(**bounds: Any) -> dict[str, Any]:
    return {"type": "number", **bounds}


_NUMBER_OR_FLAG = {"anyOf": [_number(), _FLAG]}

_WHAT_PEFT_TAKES: dict[str, dict[str, Any]] = {
    **{name: {} for name in (*UNREAD, *FLAGS, *NOT_LOADED)},
    "loftq_config": {},
    "monteclora_config": {},
    "alora_invocation_tokens": {},
    "rank_pattern": {},
    "use_dora": {"enum": [*_EMPTY]},
    "target_modules": {"anyOf": [kinds.STRINGS.schema, _TEXT, _NULL, _OBJECT]},
    **dict.fromkeys(("exclude_modules", "layers_pattern", "alpha_pattern"), _NO_NUMBER),
    "target_parameters": {"not": {"anyOf": [_TRUE, _TEXT]}},
    "modules_to_save": {
        "anyOf": [kinds.STRINGS.schema, _OBJECT, _NULL, {"enum": [False, 0, ""]}],
    },
    "layer_replication": {
        "anyOf": [kinds.INTEGER_PAIRS.schema, _NULL, {"enum": [False, 0, "", {}]}],
    },
    "layers_to_transform": {
        "anyOf": [
            # An index that is not a number names no layer; the others count.
            {**_ARRAY, "not": {**_ARRAY, "minItems": 1, "items": _TEXT}},
            {"type": "integer"},
            _NULL,
            _FLAG,
        ],
    },
    "lora_dropout": {"anyOf": [_number(maximum=1), _FLAG]},
    **dict.fromkeys(("lora_alpha", "tinit", "tfinal"), _NUMBER_OR_FLAG),
    "orth_reg_weight": {"anyOf": [_number(minimum=0), _FLAG]},
    "bias": {"anyOf": [{"enum": [*BIASES]}, {**_TEXT, "pattern": "_only$"}]},
    # Null is never right here: in a saved adapter it breaks PEFT too.
    "total_step": {"anyOf": [_number(exclusiveMinimum=0), _TRUE]},
}
"""The schemas of fields with values that PEFT takes although they are of another type."""


_OF_BOTH = frozenset({"ADA403", "ADA404", "ADA418"})
"""The rules on several fields that hold for LoRA too."""

_WHAT_LORA_TAKES = _WHAT_PEFT_TAKES | {
    "r": {"type": "integer", "minimum": 1},
    "use_dora": {},
    "init_lora_weights": {"anyOf": [_FLAG, _TEXT, {"enum": [*_EMPTY]}]},
    **dict.fromkeys(("rank_pattern", "alpha_pattern"), _OBJECT),
    "megatron_config": {"anyOf": [_OBJECT, {"enum": [*_EMPTY]}]},
    "monteclora_config": {"anyOf": [_OBJECT, {"enum": [*_EMPTY]}]},
}


def _property(field: Field, method: Method) -> dict[str, Any]:
    alternatives = [dict(shape.schema) for shape in field.kinds]
    taken = _WHAT_LORA_TAKES if method == LORA else _WHAT_PEFT_TAKES
    if field.name in taken:
        body = dict(taken[field.name])
    elif field.choices is not None:
        # `enum` covers the type as well; null stays one of the values where it is allowed.
        nullable = kinds.NULL in field.kinds
        body = {"enum": [*field.choices, *([None] if nullable else [])]}
    elif len(alternatives) == 1 or _is_nullable_type(alternatives):
        types = [alternative["type"] for alternative in alternatives]
        body = alternatives[0] if len(types) == 1 else {"type": types}
    else:
        body = {"anyOf": alternatives}
    if field.name == "init_r":
        body["minimum"] = field.least
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


def conflicts() -> dict[str, dict[str, Any]]:
    """Return the schemas of fields whose values depend on others, by the codes of the rules."""

    def is_set(name: str, value: dict[str, Any]) -> dict[str, Any]:
        return {"properties": {name: value}, "required": [name]}

    def given(condition: dict[str, Any], **properties: Any) -> dict[str, Any]:
        return {"if": condition, "then": {"properties": properties}}

    not_empty = {"type": "array", "minItems": 1}
    below_one = _number(exclusiveMinimum=0, exclusiveMaximum=1)
    saved_pattern = {"type": ["object", "null"], "additionalProperties": kinds.BOOLEANS.schema}
    return {
        "ADA103": given(
            {"properties": {"inference_mode": {"enum": [*_EMPTY]}}},
            beta1=below_one,
            beta2=below_one,
            lora_dropout={"not": {"enum": [1, True]}},
            target_r=_NUMBER_OR_FLAG,
            deltaT=_NUMBER_OR_FLAG,
        ),
        "ADA304": given(_IS_SAVED, rank_pattern=saved_pattern),
        "ADA421": {"not": is_set("target_modules", {"enum": [[], ""]})},
        "ADA402": {"not": is_set("init_lora_weights", {"const": "loftq"})},
        "ADA403": given(
            is_set("target_modules", _TEXT), layers_to_transform=_NULL, layers_pattern=_NULL
        ),
        "ADA404": {
            "if": is_set("layers_pattern", {"anyOf": [_TEXT | {"minLength": 1}, not_empty]}),
            "then": is_set("layers_to_transform", {"not": _NULL}),
        },
        "ADA409": {"not": is_set("target_parameters", not_empty | {"items": _TEXT})},
        "ADA408": {
            "if": is_set("task_type", {"const": "CAUSAL_LM"}),
            "then": {"not": is_set("alora_invocation_tokens", not_empty)},
        },
        "ADA418": given(is_set("lora_bias", _TRUE), init_lora_weights={"not": _TEXT}),
    }
