"""An organisation's own JSON Schema on top of the contract: same positions, same reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adalora_core.contract import sources
from adalora_core.contract.rule import Finding
from adalora_core.contract.rules.house import POLICY
from adalora_core.contract.sources.limits import DEFAULT_LIMITS
from adalora_core.contract.sources.reading import format_of, read_bytes, to_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from adalora_core.contract.block import Block


class Policy:
    """A compiled schema that a configuration must satisfy besides the contract.

    Args:
        schema: a JSON Schema; `$schema` names its draft, 2020-12 without one.

    Raises:
        ValueError: it is no valid schema.
    """

    def __init__(self, schema: Any) -> None:
        import jsonschema

        if not isinstance(schema, dict):
            raise ValueError("a policy should be a JSON Schema, an object")  # noqa: TRY004 - content
        validator = jsonschema.validators.validator_for(
            schema, default=jsonschema.Draft202012Validator
        )
        try:
            validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise ValueError(f"a policy should be a valid JSON Schema: {error.message}") from None
        self._validator = validator(schema)

    def check(self, block: Block) -> Iterator[Finding]:
        """Yield a finding for everything in the block that the schema refuses."""
        for error in self._validator.iter_errors(dict(block.values)):
            path = tuple(error.absolute_path)
            place = block.at(str(path[0]), *path[1:]) if path else block.path
            yield Finding(
                POLICY,
                place,
                f"the policy refuses this: {error.message}",
                hint=error.schema.get("description") if isinstance(error.schema, dict) else None,
            )


def load_policy(path: Path) -> Policy:
    """Read a policy from a JSON, YAML or TOML file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no valid JSON Schema.
    """
    document = to_text(read_bytes(path, DEFAULT_LIMITS), DEFAULT_LIMITS)
    if not document.fatal:
        document = sources.decode(document.text, format_of(path), DEFAULT_LIMITS)
    if document.fatal:
        raise ValueError(f"{path}: {document.findings[0].message}")
    try:
        return Policy(document.value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
