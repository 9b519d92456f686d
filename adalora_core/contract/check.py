"""`check_config` and `validate_config`: from a source to a report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

from adalora_core.contract import sources
from adalora_core.contract.assembly import assemble
from adalora_core.contract.block import Block
from adalora_core.contract.discovery import block_at
from adalora_core.contract.fields import Runtime
from adalora_core.contract.options import CheckOptions
from adalora_core.contract.plain import plain
from adalora_core.contract.rule import Finding
from adalora_core.contract.rules.input import LIMIT_EXCEEDED
from adalora_core.contract.sources.document import Document
from adalora_core.contract.sources.limits import DEFAULT_LIMITS, Limits
from adalora_core.contract.sources.reading import FORMATS, Format, format_of, read_bytes, to_text

if TYPE_CHECKING:
    from adalora_core.contract.diagnostics import Report
    from adalora_core.contract.model import AdaLoraConfig
    from adalora_core.contract.policy import Policy

Source = str | bytes | bytearray | Mapping[str, Any] | os.PathLike[str]


def check_config(
    source: Source,
    *,
    runtime: Runtime = "peft",
    strict_keys: bool = False,
    key: str | None = None,
    format: Format | None = None,  # noqa: A002 - the option's name
    peft_version: str | None = None,
    policy: Mapping[str, Any] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Report:
    """Check a configuration and return everything there is to say about it.

    Args:
        source: JSON text (a str is always content, never a file's name), a mapping (tuples, sets
            and enum members stand for lists and strings), or a path object such as
            `pathlib.Path("adapter_config.json")`.
        runtime: who will train: under `"peft"` what crashes PEFT 0.21 is an error, under
            `"adalora-core"` what this package trains is not.
        strict_keys: make unknown keys errors instead of warnings.
        key: JSON pointer of the AdaLoRA mapping inside the document; None: the whole document.
        format: `"json"`, `"yaml"` or `"toml"`; None: by a path's suffix, else JSON.
        peft_version: also say which keys a PEFT older than the contract's does not know.
        policy: a JSON Schema of your own that must hold besides the contract.
        limits: what the document may ask of this process.

    Returns:
        The report. Bad content never raises.

    Raises:
        OSError: a path cannot be read.
        TypeError: the source is of no type listed above.
        ValueError: an option has a value that it cannot have.

    Example:
        >>> report = check_config('{"peft_type": "ADALORA", "total_step": 100, "tfinal": 200}')
        >>> report.ok, report.errors[0].code, report.errors[0].span.start_column
        (False, 'ADA202', 40)
    """
    if runtime not in get_args(Runtime):
        raise ValueError(f"runtime: expected {' or '.join(get_args(Runtime))}, got {runtime!r}")
    if format is not None and format not in FORMATS:
        raise ValueError(f"format: expected {', '.join(FORMATS)}, got {format!r}")
    options = CheckOptions(
        runtime, strict_keys, parse_version(peft_version), limits, _compiled(policy)
    )
    if isinstance(source, Mapping):
        return _check_document(_from_mapping(source), None, key, options, has_text=False)
    name = None
    if isinstance(source, os.PathLike):
        name = os.fspath(source)
        document = to_text(read_bytes(source, limits), limits)
        format = format or format_of(name)  # noqa: A001 - the option's name
    elif isinstance(source, (bytes, bytearray)):
        document = to_text(bytes(source), limits)
    elif isinstance(source, str):
        # Through bytes, so that size and stray surrogates are judged in one place.
        document = to_text(source.encode("utf-8", "surrogatepass"), limits)
    else:
        raise TypeError(
            "check_config: expected JSON text (str or bytes), a mapping or a path object, got "
            f"{type(source).__name__}"
        )
    if not document.fatal:
        document = decode_further(document, format or "json", limits)
    return _check_document(document, name, key, options, has_text=True)


def _from_mapping(source: Mapping[str, Any]) -> Document:
    try:
        return Document("", {name: plain(value, name) for name, value in source.items()})
    except RecursionError:
        message = "a mapping that holds itself, or is nested too deep"
        return Document("", findings=[Finding(LIMIT_EXCEEDED, (), message)], fatal=True)


def _compiled(policy: Mapping[str, Any] | None) -> Policy | None:
    if policy is None:
        return None
    from adalora_core.contract.policy import Policy

    return Policy(dict(policy))


def decode_further(document: Document, format: Format, limits: Limits) -> Document:  # noqa: A002
    """Decode a document that has only text yet, and keep what was found on the way."""
    decoded = sources.decode(document.text, format, limits)
    decoded.findings[:0] = document.findings
    return decoded


def _check_document(
    document: Document, name: str | None, key: str | None, options: CheckOptions, *, has_text: bool
) -> Report:
    blocks: list[Block] = []
    if not document.fatal:
        found = block_at(document, key, options)
        if isinstance(found, Block):
            blocks = [found]
        else:
            document.findings.append(found)
    return assemble(document, blocks, name, options, has_text=has_text)


def validate_config(
    source: Source,
    *,
    runtime: Runtime = "peft",
    strict_keys: bool = False,
    key: str | None = None,
    format: Format | None = None,  # noqa: A002 - the option's name
    peft_version: str | None = None,
    policy: Mapping[str, Any] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> AdaLoraConfig:
    """Check a configuration, raise if it is wrong, and return it typed.

    Findings of severity warning go through Python's `warnings` as `ConfigWarning`. The arguments
    are those of `check_config`.

    Raises:
        ConfigError: a `ValueError` whose text is the whole report and whose `.report` holds it.
        OSError: a path cannot be read.

    Example:
        >>> validate_config({"peft_type": "ADALORA", "init_r": 12, "target_r": 8,
        ...                  "tfinal": 200, "total_step": 1000}).total_step
        1000
    """
    report = check_config(
        source,
        runtime=runtime,
        strict_keys=strict_keys,
        key=key,
        format=format,
        peft_version=peft_version,
        policy=policy,
        limits=limits,
    )
    report.raise_if_errors()
    report.warn()
    config = report.config
    assert config is not None  # noqa: S101 - a report without errors has one
    return config


def parse_version(version: str | None) -> tuple[int, ...] | None:
    """Read a PEFT release such as `0.17` or `0.17.1`.

    Raises:
        ValueError: it is not two or three numbers with dots between them.
    """
    if version is None:
        return None
    parts = version.split(".")
    if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
        raise ValueError(
            f"peft_version: expected a release such as 0.17 or 0.17.1, got {version!r}"
        )
    return tuple(int(part) for part in parts)
