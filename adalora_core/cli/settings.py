"""Read a project's defaults of `adalora check`: `[tool.adalora]` in the nearest pyproject.toml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from adalora_core.contract.fields.table import Runtime
from adalora_core.contract.findings import SEVERITIES
from adalora_core.contract.reports import FORMATS

if TYPE_CHECKING:
    from pathlib import Path

_CHOICES: dict[str, tuple[str, ...]] = {
    "output-format": FORMATS,
    "fail-level": SEVERITIES,
    "runtime": get_args(Runtime),
}
_TYPES: dict[str, type] = {
    "select": list,
    "ignore": list,
    "exclude": list,
    "limit": list,
    "strict-keys": bool,
    "exit-zero": bool,
    "peft-version": str,
    "policy": str,
    "per-file-ignores": dict,
}


def project_settings(folder: Path) -> dict[str, Any]:
    """Return the defaults that the nearest pyproject.toml at or above `folder` sets.

    A key is a long option without its dashes. A relative `policy`, and a pattern that names a
    folder, start at the folder of pyproject.toml.

    Raises:
        ValueError: the file is not TOML, or the section holds an unknown key or a wrong value.
    """
    for place in (folder, *folder.parents):
        file = place / "pyproject.toml"
        if file.is_file():
            return _read(file)
    return {}


def _read(file: Path) -> dict[str, Any]:
    text = file.read_bytes()
    if b"adalora" not in text:
        # Most projects have no such section, and the parser is slow to import.
        return {}
    import tomllib

    try:
        tools = tomllib.loads(text.decode("utf-8")).get("tool")
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    section = tools.get("adalora", {}) if isinstance(tools, dict) else {}
    if not isinstance(section, dict):
        message = f"{file}: tool.adalora: expected a table, got {section!r}"
        raise ValueError(message)  # noqa: TRY004 - the file is wrong, not a caller
    for key, value in section.items():
        _check(file, key, value)
    settings = {key.replace("-", "_"): value for key, value in section.items()}
    if "exclude" in settings:
        settings["exclude"] = [_anchored(pattern, file.parent) for pattern in settings["exclude"]]
    if "per_file_ignores" in settings:
        settings["per_file_ignores"] = [
            f"{_anchored(pattern, file.parent)}:{','.join(words)}"
            for pattern, words in settings["per_file_ignores"].items()
        ]
    if "policy" in settings:
        settings["policy"] = str(file.parent / settings["policy"])
    return settings


def _anchored(pattern: str, folder: Path) -> str:
    """Return the pattern; if it names a folder, let it start at the project."""
    if "/" not in pattern:
        return pattern
    from glob import escape

    return f"{escape(folder.absolute().as_posix())}/{pattern.removeprefix('./')}"


_NAMES: dict[type, str] = {list: "a list of strings", dict: "a table of lists of strings"}


def _is_list_of_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _check(file: Path, key: str, value: Any) -> None:
    where = f"{file}: tool.adalora.{key}"
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise ValueError(f"{where}: expected one of {', '.join(_CHOICES[key])}, got {value!r}")
    elif key in _TYPES:
        wanted = _TYPES[key]
        fits = _is_list_of_strings(value) if wanted is list else isinstance(value, wanted)
        if wanted is dict:
            fits = fits and all(_is_list_of_strings(entry) for entry in value.values())
        if not fits:
            name = _NAMES.get(wanted, wanted.__name__)
            raise ValueError(f"{where}: expected {name}, got {value!r}")
    else:
        known = ", ".join(sorted({*_CHOICES, *_TYPES}))
        raise ValueError(f"{where}: unknown key; expected one of {known}")
