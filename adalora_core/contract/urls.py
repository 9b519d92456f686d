"""Where this project publishes; the one place that knows."""

from __future__ import annotations

HOME = "https://adalora-core.readthedocs.io"


def rule_url(code: str) -> str:
    """Return the address of a rule's page."""
    return f"{HOME}/rules/{code}"


def schema_url(family: str, version: str, file: str) -> str:
    """Return the address of a published schema, which is its `$id`."""
    return f"{HOME}/schemas/{family}/{version}/{file}"
