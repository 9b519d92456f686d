"""Generate the schema of the JSON report, `schemas/adalora-report.schema.json`."""

from __future__ import annotations

import json
from typing import Any

from adalora_core.checker.reports.json_report import SCHEMA_VERSION
from adalora_core.config.findings import SEVERITIES
from adalora_core.config.schemas.config import schema_id

FILE = "adalora-report.schema.json"
_POSITION = {"offset": 0, "line": 1, "column": 1}


def report_schema() -> dict[str, Any]:
    """Return the schema of `--output-format json`."""
    integers = {name: {"type": "integer", "minimum": least} for name, least in _POSITION.items()}
    position = _object(integers)
    text = {"type": "string"}
    text_or_null = {"type": ["string", "null"]}
    here = _object({name: integers[name] for name in ("line", "column")})
    cell = _object({"number": {"type": "integer", "minimum": 1}, "start": here, "end": here})
    stretch = _object({"start": position, "end": position})
    # Only a place in a notebook has a cell.
    stretch["properties"]["cell"] = {**cell, "description": "The place in a notebook's cell."}
    span = {"anyOf": [stretch, {"type": "null"}]}
    finding = {
        "code": {"type": "string", "pattern": "^ADA[0-9]{3}$"},
        "name": text,
        "severity": {"enum": list(SEVERITIES)},
        "message": text,
        "pointer": {"type": "string", "description": "JSON pointer (RFC 6901)"},
    }
    remedy = {"description": text, "safe": {"type": "boolean"}}
    edit = _object({"span": span, "replacement": text})
    fix = _object({**remedy, "edits": {"type": "array", "items": edit}, "obstacle": text_or_null})
    diagnostic = {
        **finding,
        "span": span,
        "hint": text_or_null,
        "related": {
            "type": "array",
            "items": _object({"message": text, "pointer": text, "span": span}),
        },
        "fix": {"anyOf": [fix, {"type": "null"}]},
    }
    count = {"type": "integer", "minimum": 0}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": schema_id("adalora-report", f"{SCHEMA_VERSION}.0", FILE),
        "title": "Report of adalora check",
        **_object(
            {
                "schema_version": {"const": SCHEMA_VERSION},
                "summary": _object(
                    dict.fromkeys(
                        (
                            "configurations",
                            "errors",
                            "warnings",
                            "infos",
                            "skipped",
                            "too_large",
                            "left_out",
                            "unjudged",
                            "suppressed",
                        ),
                        count,
                    )
                ),
                "settings": _object({"file": text_or_null, "values": {"type": "object"}}),
                "notices": {
                    "type": "array",
                    "description": "What could not be read, and the like.",
                    "items": _object(
                        {"source": text_or_null, "message": text, "fails": {"type": "boolean"}}
                    ),
                },
                "reports": {
                    "type": "array",
                    "items": _object(
                        {
                            "source": text_or_null,
                            "runtime": text,
                            "ok": {"type": "boolean"},
                            "diagnostics": {
                                "type": "array",
                                "items": {"$ref": "#/$defs/diagnostic"},
                            },
                            "fixed": {"type": "array", "items": _object({**finding, **remedy})},
                        }
                    ),
                },
            }
        ),
        "$defs": {"diagnostic": _object(diagnostic)},
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object with all of these keys; later versions may add keys."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def report_schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(report_schema(), indent=2) + "\n"
