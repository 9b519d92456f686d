"""The identity of a published schema; the one place that knows.

A name, not an address: a schema is the same wherever it is served, and no document of ours sends a
reader, an editor or a code scanning service to a host that somebody else could own.
"""

from __future__ import annotations


def schema_id(family: str, version: str, file: str) -> str:
    """Return the `$id` of a published schema."""
    return f"urn:adalora-core:schemas/{family}/{version}/{file}"
