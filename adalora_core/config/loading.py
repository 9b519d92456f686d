"""Take a typed configuration from a mapping or from the file of a saved adapter.

Every rule on configurations is run; findings have the path of their value, and no place in a text.
`check_config` finds configurations in any document, with places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adalora_core.config.fields.block import Block, BlockOptions
from adalora_core.config.fields.readings import plain
from adalora_core.config.findings import Checked, ConfigError, Diagnostic, Related
from adalora_core.config.model import AdaLoraConfig
from adalora_core.config.rules import findings
from adalora_core.config.rules.base import Finding
from adalora_core.floor.errors import CheckpointError
from adalora_core.floor.escaping import visible
from adalora_core.floor.files import is_link_out, object_in
from adalora_core.floor.places import to_pointer


def config_of(values: Mapping[str, Any], source: str | None = None) -> AdaLoraConfig:
    """Return the configuration that a mapping holds, if nothing in it breaks the contract.

    Findings of severity warning are ignored.

    Raises:
        ConfigError: the mapping breaks the contract; every finding is in its text.
    """
    checked, block = _checked(values, source)
    if checked.errors:
        raise ConfigError("\n".join(_lines(checked)), checked)
    return AdaLoraConfig.from_checked(block.as_read, _OPTIONS.runtime)


def faults_in(values: Mapping[str, Any], *codes: str) -> list[Diagnostic]:
    """Return the errors in the configuration that a mapping holds, and the warnings of `codes`."""
    found = _checked(values, None)[0].diagnostics
    return [each for each in found if each.severity == "error" or each.code in codes]


def _checked(values: Mapping[str, Any], source: str | None) -> tuple[Checked, Block]:
    try:
        plainly = {name: plain(value, name) for name, value in values.items()}
        block = Block(plainly, options=_OPTIONS)
    except RecursionError:
        message = "the mapping contains itself or is nested too deep"
        raise ConfigError(message, Checked((), source, runtime=_OPTIONS.runtime)) from None
    found = tuple(map(_diagnostic, findings(block)))
    return Checked(found, source, runtime=_OPTIONS.runtime, block=block.values), block


def read_config(path: Path, **changes: Any) -> AdaLoraConfig:
    """Return the configuration in `adapter_config.json`, if nothing in it breaks the contract.

    `changes` are values in place of those of the file.

    Raises:
        ConfigError: the file is not a JSON object, or breaks the contract.
        CheckpointError: the file does not exist. Or its content is not sound, and it is a link out
            of its folder, so the content is not shown.
        OSError: the file cannot be read.
    """
    if not path.exists():
        raise CheckpointError(
            f"{str(path.parent)!r} holds no {path.name}; name the folder of a saved adapter"
        )
    try:
        return config_of(object_in(path) | changes, str(path))
    except ValueError as error:
        if not is_link_out(path):
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(
                str(error), Checked((), str(path), runtime=_OPTIONS.runtime)
            ) from None
        raise CheckpointError(
            f"{str(path)!r} is a link out of its folder, and what it leads to is not a "
            "configuration without errors; replace the link by the file"
        ) from None


_OPTIONS = BlockOptions("adalora-core")


def _diagnostic(finding: Finding) -> Diagnostic:
    rule = finding.rule
    return Diagnostic(
        code=rule.code,
        name=rule.name,
        severity=finding.severity or rule.severity,
        message=finding.message,
        pointer=to_pointer(finding.path),
        hint=finding.hint or rule.hint,
        related=tuple(
            Related(message, to_pointer(path), None) for path, message in finding.related
        ),
    )


def _lines(checked: Checked) -> Iterator[str]:
    where = visible(checked.source or "the configuration")
    for each in checked.errors:
        yield f"{each.severity}[{each.code}] {visible(each.message)}"
        yield f"  --> {where}" + (f" ({visible(each.pointer)})" if each.pointer else "")
        yield f"  hint: {visible(each.hint or '')}"
