"""Define the `$id` of the published schemas.

The `$id` is a name, not an address: a reader, an editor or a code scanning service is never sent to
a host that somebody else could own.
"""

from __future__ import annotations


def schema_id(family: str, version: str, file: str) -> str:
    """Return the `$id` of a published schema."""
    return f"urn:adalora-core:schemas/{family}/{version}/{file}"
