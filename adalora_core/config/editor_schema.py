"""Generate the schema for editors: the portable schema with messages and descriptions.

Both schemas accept the same configurations. The keywords are those that VS Code's JSON server and
yaml-language-server both read. Both servers show a message for few keywords only. A rule on several
fields therefore forbids one of them (`"init_r": false`), and the message appears at its key. The
common misspellings are properties with a warning.
"""

from __future__ import annotations

from typing import Any

from adalora_core.config.fields.table import FIELDS, PEFT_VERSION, Field, Treatment
from adalora_core.config.rules import BY_CODE, RULES
from adalora_core.config.rules.base import SOUND
from adalora_core.config.rules.keys import ALIASES
from adalora_core.config.schema import DRAFTS, VERSION, config_schema, conflicts, schema_id
from adalora_core.floor.adapter_spec import LORA_START

FILE = "adalora-config.editor.schema.json"

KEYWORDS = (
    "markdownDescription",
    "enumDescriptions",
    "defaultSnippets",
    "deprecationMessage",
    "doNotSuggest",
    "errorMessage",
)
"""The editor keywords in the schema; a strict validator needs the list."""

CHOICES = {
    "bias": {
        "none": "no bias is trained",
        "all": "every bias of the model is trained",
        "lora_only": "the biases of adapted modules are trained",
    },
    "task_type": {
        "SEQ_CLS": "classification of sequences; the new head is trained in full",
        "SEQ_2_SEQ_LM": "encoder and decoder",
        "CAUSAL_LM": "language model that predicts the next token",
        "TOKEN_CLS": "classification of tokens; the new head is trained in full",
        "QUESTION_ANS": "extractive question answering; the new head is trained in full",
        "FEATURE_EXTRACTION": "hidden states, without a loss",
    },
}
"""The meaning of the values of a field."""

OWN_CHOICES = {"init_lora_weights": {LORA_START: "starts like LoRA: B is 0, E is 1"}}
"""The same for words that the runtime adalora-core alone knows."""

_WRITTEN_BY_PEFT = ("auto_mapping", "peft_version", "rank_pattern", "runtime_config")
"""Fields that people do not write, so that editors do not propose them."""

_USELESS = (Treatment.IGNORED, Treatment.REJECTED, Treatment.BREAKS)


def editor_schema() -> dict[str, Any]:
    """Return the schema for editors in draft-07, the draft that both servers support best.

    Example:
        >>> editor_schema()["properties"]["delta_t"]["deprecationMessage"]
        'ADA104: PEFT does not know this key and drops it; rename it to deltaT'
    """
    portable = config_schema("draft-07")
    properties = {
        name: _property_of(FIELDS[name], body) if name in FIELDS else body
        for name, body in portable["properties"].items()
    }
    return {
        "$schema": DRAFTS["draft-07"],
        "$id": schema_id("adalora-config", VERSION, FILE),
        "title": portable["title"],
        "markdownDescription": (
            f"The fields of `AdaLoraConfig` of PEFT {PEFT_VERSION}. Rules that JSON Schema cannot "
            "state exactly, such as those of the schedule, are in `adalora check` and `server`."
        ),
        "type": "object",
        "defaultSnippets": [_SNIPPET],
        "properties": properties | _misspellings(),
        "allOf": [
            _required(portable["required"], _message("ADA201")),
            *(_with_message(entry, _message(code)) for code, entry in conflicts().items()),
        ],
    }


_SNIPPET = {
    "label": "AdaLoRA configuration",
    "markdownDescription": "A run of 1000 steps: rank 12 at the start, 8 on average at the end.",
    "body": SOUND,
}


def _message(code: str) -> str:
    rule = BY_CODE[code]
    return f"{code}: {rule.summary}; {rule.hint}"


def _property_of(field: Field, body: dict[str, Any]) -> dict[str, Any]:
    described = body | {"markdownDescription": description_of(field)}
    if field.name in CHOICES:
        words = [*CHOICES[field.name].values(), "not set"]
        listed = body if "enum" in body else body["anyOf"][0]
        listed = listed | {"enumDescriptions": words[: len(listed["enum"])]}
        described |= listed if "enum" in body else {"anyOf": [listed, *body["anyOf"][1:]]}
    if field.name == "use_dora":
        described["errorMessage"] = _message("ADA401")
    if field.name == "total_step":
        described["errorMessage"] = _message("ADA201")
    if field.name == "target_modules":
        described["defaultSnippets"] = [
            {
                "label": "attention modules of Llama",
                "body": ["q_proj", "k_proj", "v_proj", "o_proj"],
            },
            {"label": "every linear module", "body": "all-linear"},
        ]
    if not is_proposed(field):
        described["doNotSuggest"] = True
    if field.treatment is Treatment.IGNORED:
        # A saved adapter holds every field, so a default value gets no message.
        harmless: list[Any] = [field.default, {} if field.default is None else None]
        described["if"] = {"enum": harmless}
        described["else"] = {
            "deprecationMessage": f"{_CODES.get(field.name, 'ADA405')}: AdaLoRA does not read this "
            "setting; remove it"
        }
    return described


_CODES = {"r": "ADA303", "runtime_config": "ADA108"}
"""The rules on settings without an effect that have one of their own."""


def is_proposed(field: Field) -> bool:
    """Return whether an editor proposes a field: people write it, and AdaLoRA reads it."""
    return field.treatment not in _USELESS and field.name not in _WRITTEN_BY_PEFT


def description_of(field: Field) -> str:
    """Return what a field means, as Markdown, with the rules that read it."""
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


def _with_message(schema: dict[str, Any], message: str) -> dict[str, Any]:
    """Return the same assertion in a form for which both servers show the message."""
    if "if" in schema:
        condition = _without_proposals(schema["if"])
        return {"if": condition, "then": _with_message(schema["then"], message)}
    if "not" in schema:
        forbidden = schema["not"]
        return {
            "if": _without_proposals(forbidden),
            "then": _forbidden(forbidden["required"][0], message),
        }
    parts = [
        {
            "if": _without_proposals({"properties": {name: wrong}, "required": [name]}),
            "then": _forbidden(name, message),
        }
        for name, body in schema["properties"].items()
        if body is not True
        for wrong in [body["not"] if list(body) == ["not"] else {"not": body}]
    ]
    if "required" in schema:
        parts.append(_required(schema["required"], message))
    return parts[0] if len(parts) == 1 else {"allOf": parts}


def _required(names: list[str], message: str) -> dict[str, Any]:
    # ajv's strict mode requires the properties beside `required`.
    return {
        "properties": dict.fromkeys(names, True), "required": names, "errorMessage": message
    }  # fmt: skip


def _without_proposals(condition: dict[str, Any]) -> dict[str, Any]:
    """Return the condition without proposals in editors for the fields that it reads."""
    properties = condition.get("properties", {})
    if not properties:
        return condition
    return condition | {
        "properties": {name: body | {"doNotSuggest": True} for name, body in properties.items()}
    }


def _forbidden(name: str, message: str) -> dict[str, Any]:
    return {"properties": {name: False}, "errorMessage": message}
