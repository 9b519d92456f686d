"""Read a project's defaults of `adalora check`: the table `[tool.adalora]` of pyproject.toml."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from adalora_core.checker.documents import decode, read_bytes
from adalora_core.checker.documents.problems import DUPLICATE_KEY, LIMIT_EXCEEDED, SYNTAX_ERROR
from adalora_core.checker.pipeline import parse_version
from adalora_core.checker.pipeline.selection import FileIgnore, Selection
from adalora_core.checker.reports import FORMATS
from adalora_core.commands.cli.arguments import parse_limits, similar
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.config.fields.table import LORA, PEFT_TYPE, Method, Runtime
from adalora_core.config.findings import SEVERITIES
from adalora_core.floor.files import is_inside
from adalora_core.floor.limits import DEFAULT_LIMITS

POLICY_METHODS: dict[str, tuple[Method, ...]] = {
    "adalora": (PEFT_TYPE,),
    "lora": (LORA,),
    "both": (PEFT_TYPE, LORA),
}
"""The values of `--policy-methods`."""
_CHOICES: dict[str, tuple[str, ...]] = {
    "output-format": FORMATS,
    "fail-level": SEVERITIES,
    "policy-methods": tuple(POLICY_METHODS),
    "runtime": get_args(Runtime),
}
_TYPES: dict[str, type] = {
    **dict.fromkeys(("select", "ignore", "exclude", "limit"), list),
    **dict.fromkeys(("strict-keys", "strict-types", "exit-zero", "all-files"), bool),
    **dict.fromkeys(("peft-version", "policy"), str),
    "per-file-ignores": dict,
}
_READERS: dict[str, Callable[[Any], object]] = {
    "select": lambda value: Selection.of(select=value),
    "ignore": lambda value: Selection.of(ignore=value),
    "per-file-ignores": lambda value: FileIgnore.parse(_entries(value.items())),
    "peft-version": parse_version,
    "limit": lambda value: parse_limits(value, OF_A_CHECK, lowers_only=True),
}
"""How the options read their values; each raises a ValueError for one that it refuses."""
KEYS = tuple(sorted({*_CHOICES, *_TYPES}))
"""The keys of the table, which are options of `adalora check`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a project; `file` is None without them.

    `values` are as written, and `defaults` the options that follow. `folder` holds the policy and
    all files that it refers to. `problem` is the reason why the settings are not used.
    """

    file: str | None = None
    values: dict[str, Any] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    problem: str | None = None


def project_settings(folder: Path) -> Settings:
    """Return the settings in the nearest pyproject.toml at or above `folder`.

    A key is a long option without its dashes. A relative `policy`, and a pattern that names a
    folder, start at the folder of pyproject.toml.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not TOML, or the section holds an unknown key or a wrong value.
    """
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            if not is_inside(file, place):
                raise ValueError(f"{file}: settings are not read through a link out of the project")
            return read_settings(file, place)
    return Settings()


def read_settings(file: Path, folder: Path) -> Settings:
    """Return the settings in a file; a pattern that names a folder starts at `folder`.

    A file beyond the limits of a document is a problem of the result, and not an error: it must not
    keep other files from being checked.
    """
    raw = read_bytes(file, DEFAULT_LIMITS)
    if b"adalora" not in raw:
        # Most projects have no such section, and the parser is slow to import.
        return Settings()
    document = decode(raw, "toml", DEFAULT_LIMITS)
    for problem in document.problems:
        if problem.code == LIMIT_EXCEEDED:
            return Settings(problem=f"{file}: {problem.message}; its settings are not used")
        is_of_parser = problem.code in {SYNTAX_ERROR, DUPLICATE_KEY}
        shown = _with_position(problem.message, document.text) if is_of_parser else problem.message
        raise ValueError(f"{file}: {shown}")
    tools = document.value.get("tool")
    section = tools.get("adalora", {}) if isinstance(tools, dict) else {}
    if not isinstance(section, dict):
        message = f"{file}: tool.adalora: expected a table, got {section!r}"
        raise ValueError(message)  # noqa: TRY004 - the file is wrong, not a caller
    for key, value in section.items():
        _check(file, key, value)
    if not section:
        return Settings()
    return Settings(_shown(file), section, _defaults(section, file.parent, folder), file.parent)


def _with_position(message: str, text: str) -> str:
    """Return the parser's own message, which names line and column, if it refuses the text."""
    import tomllib

    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return str(error)
    return message


def _shown(file: Path) -> str:
    """Return the name of a file from the working folder, if it is inside of that."""
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _defaults(section: dict[str, Any], beside: Path, folder: Path) -> dict[str, Any]:
    settings = {key.replace("-", "_"): value for key, value in section.items()}
    if "exclude" in settings:
        settings["exclude"] = [_anchored(pattern, folder) for pattern in settings["exclude"]]
    if "per_file_ignores" in settings:
        ignores = settings["per_file_ignores"].items()
        settings["per_file_ignores"] = _entries((_anchored(p, folder), w) for p, w in ignores)
    if "policy" in settings:
        settings["policy"] = str(beside / settings["policy"])
    return settings


def _entries(ignores: Iterable[tuple[str, list[str]]]) -> list[str]:
    """Return the ignores of patterns as the option takes them."""
    return [f"{pattern}:{','.join(words)}" for pattern, words in ignores]


def _anchored(pattern: str, folder: Path) -> str:
    """Return the pattern; if it names a folder, let it start at the project."""
    if "/" not in pattern:
        return pattern
    from glob import escape

    return f"{escape(folder.absolute().as_posix())}/{pattern.removeprefix('./')}"


_NAMES: dict[type, str] = {list: "a list of strings", dict: "a table of lists of strings"}


def _check(file: Path, key: str, value: Any) -> None:
    where = f"{file}: tool.adalora.{key}"
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ValueError(f"{where}: expected one of {', '.join(_CHOICES[key])}, got {value!r}")
        return
    if key not in _TYPES:
        known = ", ".join(KEYS)
        raise ValueError(f"{where}: unknown key{similar([key], KEYS)}; expected one of {known}")
    wanted = _TYPES[key]
    lists = value.values() if isinstance(value, dict) else [value]
    is_whole = wanted not in (list, dict) or all(
        isinstance(each, list) and all(isinstance(entry, str) for entry in each) for each in lists
    )
    fits = isinstance(value, wanted) and is_whole
    if not fits:
        raise ValueError(f"{where}: expected {_NAMES.get(wanted, wanted.__name__)}, got {value!r}")
    try:
        _READERS.get(key, bool)(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
