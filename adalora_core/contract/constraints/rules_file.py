"""`schemas/adalora-rules.json`: the rules for engines that are not ours, and the file's schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from adalora_core.contract.constraints.expressions import EXPRESSIONS, NOT_EXPRESSED
from adalora_core.contract.diagnostics import SEVERITIES
from adalora_core.contract.fields import PEFT_VERSION
from adalora_core.contract.rules import BY_CODE
from adalora_core.contract.schema_ids import schema_id

if TYPE_CHECKING:
    from adalora_core.contract.constraints.expressions import Constraint
    from adalora_core.contract.rule import Rule

FILE = "adalora-rules.json"
SCHEMA_FILE = "adalora-rules.schema.json"
VERSION = "1.0"


def rules_file() -> dict[str, Any]:
    """Return the content of the file.

    Example:
        >>> next(rule for rule in rules_file()["rules"] if rule["code"] == "ADA301")["rule"]
        '(has(self.init_r) ? self.init_r : 12) >= (has(self.target_r) ? self.target_r : 8)'
    """
    return {
        "$schema": schema_id("adalora-rules", VERSION, SCHEMA_FILE),
        "version": VERSION,
        "peft_version": PEFT_VERSION,
        "description": (
            "What must hold of an AdaLoRA configuration, as CEL expressions over the decoded "
            "mapping `self` in the shape of Kubernetes' x-kubernetes-validations. A rule speaks "
            "where its expression is false; it means nothing where one of its inputs breaks the "
            "schema of a configuration, or peft_type is not ADALORA."
        ),
        "rules": [
            _entry(BY_CODE[code], constraint)
            for code, constraints in EXPRESSIONS.items()
            for constraint in constraints
        ],
        "not_expressed": [
            {"code": code, "name": BY_CODE[code].name, "reason": reason}
            for code, reason in NOT_EXPRESSED.items()
        ],
    }


def _entry(rule: Rule, constraint: Constraint) -> dict[str, Any]:
    dynamic = constraint.message_expression
    return {
        "code": rule.code,
        "name": rule.name,
        "severity": constraint.severity or rule.severity,
        # The engine skips the whole rule where one field that any part of it reads is wrong.
        "inputs": list(dict.fromkeys((*constraint.inputs, *rule.inputs))),
        "rule": constraint.expression,
        "message": f"{rule.summary}; {rule.hint}",
        **({} if dynamic is None else {"messageExpression": dynamic}),
        "fieldPath": f".{constraint.field}",
    }


def rules_text() -> str:
    """Return the file as it is committed."""
    return json.dumps(rules_file(), indent=1, ensure_ascii=False) + "\n"


def rules_schema() -> dict[str, Any]:
    """Return the schema of the file."""
    text = {"type": "string", "minLength": 1}
    code = {"type": "string", "pattern": "^ADA[0-9]{3}$"}
    rule = {
        "code": code,
        "name": text,
        "severity": {"enum": list(SEVERITIES)},
        "inputs": {"type": "array", "items": text, "minItems": 1},
        "rule": text,
        "message": text,
        "messageExpression": text,
        "fieldPath": {"type": "string", "pattern": "^\\.[A-Za-z0-9_]+$"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": schema_id("adalora-rules", VERSION, SCHEMA_FILE),
        "title": "Rules of adalora check as CEL expressions",
        **_object(
            {
                "$schema": text,
                "version": {"const": VERSION},
                "peft_version": text,
                "description": text,
                "rules": {"type": "array", "items": _object(rule, optional={"messageExpression"})},
                "not_expressed": {
                    "type": "array",
                    "items": _object({"code": code, "name": text, "reason": text}),
                },
            },
        ),
    }


def rules_schema_text() -> str:
    """Return the schema of the file as it is committed."""
    return json.dumps(rules_schema(), indent=1) + "\n"


def _object(
    properties: dict[str, Any], optional: frozenset[str] | set[str] = frozenset()
) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
