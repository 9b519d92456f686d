"""Check a configuration in Python: `check_config` reports, `validate_config` raises."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, get_args

from adalora_core.checker import documents as text
from adalora_core.checker.documents.document import FORMATS, Document, Format
from adalora_core.checker.documents.problems import LIMIT_EXCEEDED, Problem
from adalora_core.checker.pipeline import CheckOptions, parse_version
from adalora_core.checker.pipeline.discovery import sections
from adalora_core.checker.pipeline.inspection import examine
from adalora_core.config.fields.readings import plain
from adalora_core.config.fields.table import Runtime
from adalora_core.floor.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from adalora_core.checker.reports import Report
    from adalora_core.config.model import AdaLoraConfig

P = ParamSpec("P")
Source = str | bytes | bytearray | Mapping[str, Any] | os.PathLike[str]


def check_config(
    source: Source,
    *,
    runtime: Runtime = "peft",
    strict_keys: bool = False,
    strict_types: bool = False,
    key: str | None = None,
    format: Format | None = None,  # noqa: A002 - the option's name
    peft_version: str | None = None,
    policy: Mapping[str, Any] | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Report:
    """Check a configuration and return every finding.

    Args:
        source: a path object such as `pathlib.Path("adapter_config.json")`, JSON text (a str is
            always content, never a file name), or a mapping (tuples and sets count as lists, enum
            members as strings). A file or a text is searched as `adalora check` searches a file
            that is named, and LoRA's configurations are errors. A mapping is the configuration
            itself, unless it only holds some.
        runtime: the package that will train. Under `"peft"` everything that crashes PEFT 0.21 is
            an error; under `"adalora-core"` everything that this package can train is accepted.
        strict_keys: make unknown keys errors instead of warnings.
        strict_types: make values of another type errors also where the runtime works with them.
        key: JSON pointer of the AdaLoRA mapping inside the document, empty for the whole document;
            None: search. In Python `/AdaLoraConfig/1` is the second call of the class.
        format: `"json"`, `"yaml"`, `"toml"`, `"python"` or `"notebook"`; None: by a path's suffix,
            else JSON.
        peft_version: also report what this PEFT release ignores or refuses.
        policy: a JSON Schema of your own that the configuration must satisfy too.
        limits: bounds on the size and cost of the document.

    Returns:
        The report. Bad content never raises.

    Raises:
        OSError: a path cannot be read.
        TypeError: the source is not of a type listed above.
        ValueError: an option has an invalid value.

    Example:
        >>> report = check_config('{"peft_type": "ADALORA", "total_step": 100, "tfinal": 200}')
        >>> report.ok, report.errors[0].code, report.errors[0].span.start_column
        (False, 'ADA202', 55)
    """
    if runtime not in get_args(Runtime):
        raise ValueError(f"runtime: expected {' or '.join(get_args(Runtime))}, got {runtime!r}")
    if format is not None and format not in FORMATS:
        raise ValueError(f"format: expected {', '.join(FORMATS)}, got {format!r}")
    compiled = None
    if policy is not None:
        from adalora_core.checker.pipeline.policy import Policy

        compiled = Policy(dict(policy))
    options = CheckOptions(
        runtime, strict_keys, strict_types, parse_version(peft_version), limits, compiled
    )
    name = None
    if isinstance(source, Mapping):
        document = _from_mapping(source)
        if key is None and not sections(document, options):
            key = ""
    elif isinstance(source, os.PathLike):
        name = os.fspath(source)
        document = text.read(name, limits, format)
    elif isinstance(source, (str, bytes, bytearray)):
        # As bytes, so that size and lone surrogates are checked in one place.
        if isinstance(source, str):
            source = source.encode("utf-8", "surrogatepass")
        document = text.decode(bytes(source), format or "json", limits)
    else:
        raise TypeError(
            "check_config: expected JSON text (str or bytes), a mapping or a path object, got "
            f"{type(source).__name__}"
        )
    return examine(document, name, options, key=key).report


def _from_mapping(source: Mapping[str, Any]) -> Document:
    try:
        values = {name: plain(value, name) for name, value in source.items()}
    except RecursionError:
        message = "the mapping contains itself or is nested too deep"
        problem = Problem(LIMIT_EXCEEDED, message)
        return Document("", problems=[problem], fatal=True, is_text=False)
    return Document("", values, is_text=False)


def _with_arguments_of(
    check: Callable[P, Report],
) -> Callable[[Callable[..., AdaLoraConfig]], Callable[P, AdaLoraConfig]]:
    """Give a function the signature of `check`, to which it passes its arguments."""

    def declared(function: Callable[..., AdaLoraConfig]) -> Callable[P, AdaLoraConfig]:
        arguments = inspect.signature(check)
        returned = function.__annotations__["return"]
        vars(function)["__signature__"] = arguments.replace(return_annotation=returned)
        return function

    return declared


@_with_arguments_of(check_config)
def validate_config(source: Source, **options: Any) -> AdaLoraConfig:
    """Check a configuration and return it typed; raise if it has errors.

    Findings of severity warning are issued through Python's `warnings` as `ConfigWarning`. The
    arguments are those of `check_config`. The source must hold one configuration whose values are
    all written there, or `key` must name such a one.

    Raises:
        ConfigError: a `ValueError` whose text is the whole report and whose `.report` holds it.
        OSError: a path cannot be read.

    Example:
        >>> validate_config({"peft_type": "ADALORA", "init_r": 12, "target_r": 8,
        ...                  "tfinal": 200, "total_step": 1000}).total_step
        1000
    """
    report = check_config(source, **options)
    config = report.require_config()
    report.warn()
    return config
