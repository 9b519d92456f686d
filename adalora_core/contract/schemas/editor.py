"""The schema of a configuration for editors: the portable one, with words for whoever types.

It accepts exactly what the portable schema accepts. Keywords are those that the JSON server of
VS Code and the YAML server both read. A message can be attached to few keywords in both, so every
rule on several fields forbids the field that it accuses (`"init_r": false`), whose message both
show at the field's key. The wrong spellings that people use are properties with a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.contract.fields.suggestions import ALIASES
from adalora_core.contract.fields.table import BIASES, FIELDS, PEFT_VERSION, TASK_TYPES, Treatment
from adalora_core.contract.rules import BY_CODE, RULES
from adalora_core.contract.rules.base import SOUND
from adalora_core.contract.schemas.config import DRAFTS, VERSION, config_schema, conflicts, ladders
from adalora_core.contract.schemas.ids import schema_id

if TYPE_CHECKING:
    from adalora_core.contract.fields.table import Field

FILE = "adalora-config.editor.schema.json"

KEYWORDS = (
    "markdownDescription",
    "enumDescriptions",
    "defaultSnippets",
    "deprecationMessage",
    "doNotSuggest",
    "errorMessage",
)
"""The keywords of editors that are used; a strict validator has to be told of them."""

CHOICES = {
    "bias": dict(
        zip(
            BIASES,
            (
                "no bias is trained",
                "every bias of the model is trained",
                "the biases of adapted modules are trained",
            ),
            strict=True,
        )
    ),
    "task_type": dict(
        zip(
            TASK_TYPES,
            (
                "classification of sequences; the new head is trained whole",
                "encoder and decoder",
                "language model that predicts the next token",
                "classification of tokens; the new head is trained whole",
                "extractive question answering; the new head is trained whole",
                "hidden states, no loss of its own",
            ),
            strict=True,
        )
    ),
}
"""What the values of a field mean; null is described by `_description_of`."""

_WRITTEN_BY_PEFT = ("auto_mapping", "peft_version", "rank_pattern", "runtime_config")
"""Known, but nothing that a person writes, so that they are not proposed."""

_UNWELCOME = (Treatment.IGNORED, Treatment.REJECTED, Treatment.BREAKS)


def editor_schema() -> dict[str, Any]:
    """Return the schema for editors, in draft-07, which both servers know best.

    Example:
        >>> editor_schema()["properties"]["delta_t"]["deprecationMessage"]
        'ADA104: PEFT does not know this key and drops it; rename it to deltaT'
    """
    portable = config_schema("draft-07")
    properties = {
        name: _described(FIELDS[name], body) if name in FIELDS else body
        for name, body in portable["properties"].items()
    }
    # Its message names the rule, which a count of properties cannot.
    del properties["loftq_config"]["maxProperties"]
    return {
        "$schema": DRAFTS["draft-07"],
        "$id": schema_id("adalora-config", VERSION, FILE),
        "title": portable["title"],
        "markdownDescription": (
            f"The fields of `AdaLoraConfig` of PEFT {PEFT_VERSION}. An editor shows what JSON "
            "Schema can state; `adalora check` says the rest, with every rule exact."
        ),
        "type": "object",
        "defaultSnippets": [_SNIPPET],
        "properties": properties | _misspellings(),
        "allOf": [
            _required(portable["required"], _message("ADA201")),
            _accusing("loftq_config", _NOT_EMPTY, _message("ADA402")),
            *(_spoken(entry, _message(code)) for code, entry in [*conflicts(), *ladders()]),
        ],
        "$defs": {
            # The bounds of tinit are conditions of the ladder, those of tfinal its conclusions.
            name: _quiet(body)
            if name.startswith("tinit")
            else {"type": "object"} | _spoken(body, _message("ADA202"))
            for name, body in portable["$defs"].items()
        },
    }


_NOT_EMPTY = {"type": "object", "not": {"maxProperties": 0}}

_SNIPPET = {
    "label": "AdaLoRA configuration",
    "markdownDescription": "A run of 1000 steps: rank 12 at the start, 8 on average at the end.",
    "body": SOUND,
}


def _message(code: str) -> str:
    rule = BY_CODE[code]
    if code == "ADA301":
        # A rung cannot tell equal ranks, which are another rule, from those the wrong way round.
        return f"ADA301, ADA302: init_r is not above target_r; {rule.hint}"
    return f"{code}: {rule.summary}; {rule.hint}"


def _described(field: Field, body: dict[str, Any]) -> dict[str, Any]:
    described = body | {"markdownDescription": _description_of(field)}
    if field.name in CHOICES:
        words = [*CHOICES[field.name].values(), "not said"]
        described["enumDescriptions"] = words[: len(body["enum"])]
    if field.name == "use_dora":
        described["errorMessage"] = _message("ADA401")
    if field.name == "total_step":
        described["errorMessage"] = _message("ADA201")
    if field.name == "target_modules":
        described["defaultSnippets"] = [
            {"label": "attention of a Llama", "body": ["q_proj", "k_proj", "v_proj", "o_proj"]},
            {"label": "every linear module", "body": "all-linear"},
        ]
    if field.treatment in _UNWELCOME or field.name in _WRITTEN_BY_PEFT:
        described["doNotSuggest"] = True
    if field.treatment is Treatment.IGNORED:
        # A saved adapter has every field with its default: those need no remark.
        harmless: list[Any] = [field.default, {} if field.default is None else None]
        described["if"] = {"enum": harmless}
        described["else"] = {
            "deprecationMessage": "ADA405: AdaLoRA does not read this setting; remove it"
        }
    return described


def _description_of(field: Field) -> str:
    concerned = [rule for rule in RULES if field.name in rule.inputs]
    lines = [field.summary]
    if field.treatment is Treatment.IGNORED:
        lines[0] += " AdaLoRA ignores it."
    if concerned:
        lines += ["", "Rules:", ""]
        lines += [f"- `{rule.code}` ({rule.severity}): {rule.summary}" for rule in concerned]
    return "\n".join(lines)


def _misspellings() -> dict[str, Any]:
    return {
        alias: {
            "doNotSuggest": True,
            "deprecationMessage": "ADA104: PEFT does not know this key and drops it; "
            f"rename it to {meant}",
        }
        for alias, meant in ALIASES.items()
        if alias not in FIELDS
    }


def _spoken(schema: dict[str, Any], message: str) -> dict[str, Any]:
    """Return the same assertion in a form to which both servers attach the message."""
    if "if" in schema:
        kept = {"if": _quiet(schema["if"])}
        return kept | {k: _spoken(schema[k], message) for k in ("then", "else") if k in schema}
    if "allOf" in schema:
        return {"allOf": [_spoken(each, message) for each in schema["allOf"]]}
    if "$ref" in schema:
        return schema
    if "not" in schema:
        forbidden = schema["not"]
        return {"if": _quiet(forbidden), "then": _forbidden(forbidden["required"][0], message)}
    parts = [
        _accusing(name, _opposite(body), message)
        for name, body in schema["properties"].items()
        if body is not True
    ]
    if "required" in schema:
        parts.append(_required(schema["required"], message))
    return parts[0] if len(parts) == 1 else {"allOf": parts}


def _required(names: list[str], message: str) -> dict[str, Any]:
    # ajv's strict mode wants the properties beside the requirement.
    return {
        "properties": dict.fromkeys(names, True), "required": names, "errorMessage": message
    }  # fmt: skip


def _opposite(body: dict[str, Any]) -> dict[str, Any]:
    # A value of another type has its own message: nothing is said about its size.
    typed = {"type": "integer"} if body.get("type") == "integer" else {}
    return {**typed, "not": body}


def _accusing(name: str, wrong: dict[str, Any], message: str) -> dict[str, Any]:
    """Forbid the field `name` where its value is wrong."""
    condition = {"properties": {name: wrong}, "required": [name]}
    return {"if": _quiet(condition), "then": _forbidden(name, message)}


def _quiet(condition: dict[str, Any]) -> dict[str, Any]:
    """Keep an editor from proposing the fields that a condition only asks about."""
    asked = condition.get("properties", {})
    if not asked:
        return condition
    return condition | {
        "properties": {name: body | {"doNotSuggest": True} for name, body in asked.items()}
    }


def _forbidden(name: str, message: str) -> dict[str, Any]:
    return {"properties": {name: False}, "errorMessage": message}
