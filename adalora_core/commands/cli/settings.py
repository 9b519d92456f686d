"""Read what a project decides: the table `[tool.adalora]`, and what a search leaves out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any, get_args

from adalora_core.checker.documents import decode, read_bytes
from adalora_core.checker.documents.problems import LIMIT_EXCEEDED
from adalora_core.checker.pipeline import parse_version
from adalora_core.checker.pipeline.suppression import Selection, file_ignores
from adalora_core.checker.reports import FORMATS
from adalora_core.commands.cli.console import parse_limits, similar
from adalora_core.commands.session import OF_A_CHECK
from adalora_core.config.fields.table import LORA, PEFT_TYPE, Method, Runtime
from adalora_core.config.findings import SEVERITIES
from adalora_core.floor.files import is_inside, read_within
from adalora_core.floor.limits import DEFAULT_LIMITS

POLICY_METHODS: dict[str, tuple[Method, ...]] = {
    "adalora": (PEFT_TYPE,),
    "lora": (LORA,),
    "both": (PEFT_TYPE, LORA),
}
"""The values of `--policy-methods`."""
_KINDS: dict[str, type | tuple[str, ...]] = {
    "output-format": FORMATS,
    "fail-level": SEVERITIES,
    "policy-methods": tuple(POLICY_METHODS),
    "runtime": get_args(Runtime),
    **dict.fromkeys(("select", "ignore", "exclude", "limit"), list),
    **dict.fromkeys(("strict-keys", "strict-types", "exit-zero", "all-files"), bool),
    **dict.fromkeys(("peft-version", "policy"), str),
    "per-file-ignores": dict,
}
_READERS: dict[str, Callable[[Any], object]] = {
    "select": lambda value: Selection.of(select=value),
    "ignore": lambda value: Selection.of(ignore=value),
    "per-file-ignores": lambda value: file_ignores(_entries(value.items())),
    "peft-version": parse_version,
    "limit": lambda value: parse_limits(value, OF_A_CHECK, lowers_only=True),
}
"""How the options read their values; each raises a ValueError for one that it refuses."""
KEYS = tuple(sorted(_KINDS))
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
        before = document.text[: problem.offset or 0]
        raise ValueError(f"{file}: {problem.message} (line {before.count(chr(10)) + 1})")
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
    if (wanted := _KINDS.get(key)) is None:
        known = ", ".join(KEYS)
        raise ValueError(f"{where}: unknown key{similar([key], KEYS)}; expected one of {known}")
    if isinstance(wanted, tuple):
        if value not in wanted:
            raise ValueError(f"{where}: expected one of {', '.join(wanted)}, got {value!r}")
        return
    lists = value.values() if isinstance(value, dict) else [value]
    is_whole = wanted not in (list, dict) or all(
        isinstance(each, list) and all(isinstance(entry, str) for entry in each) for each in lists
    )
    if not (isinstance(value, wanted) and is_whole):
        raise ValueError(f"{where}: expected {_NAMES.get(wanted, wanted.__name__)}, got {value!r}")
    try:
        _READERS.get(key, bool)(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


IGNORE_FILE = ".gitignore"
VENDORED = frozenset({"node_modules", "site-packages", "__pypackages__"})
"""Folders of installed packages; a folder with `pyvenv.cfg` is one too."""
IGNORED, INSTALLED, HIDDEN = "ignored by git", "of installed packages", "hidden by a dot"
EXCLUDED = "excluded by"

_Specs = tuple[tuple[str, Any], ...]
"""Ignore files that apply to a folder, each with its own folder, the outermost first."""


class SearchExclusions:
    """What the searches of one run leave out, and why; nothing with `all_files`.

    The `.gitignore` of each folder applies to what is below it, and so do those above a search up
    to the top of its repository. Whoever may change such a file can hide others: where changes by
    strangers are checked, `all_files` is for.
    """

    def __init__(self, *, all_files: bool = False) -> None:
        self.all_files = all_files
        self._noted: dict[str, tuple[str, str]] = {}
        self._specs: dict[str, _Specs] = {}

    def kept(self, folder: str, names: Iterable[str], kind: str) -> list[str]:
        """Return the entries of a folder that are searched, and count the others of their kind.

        Entries of the kind `file` or `folder`; the folders above are asked about before.
        """
        if self.all_files:
            return list(names)
        place, kept = os.path.abspath(folder), []  # noqa: PTH100 - keeps links
        specs = self._specs_of(place)
        for name in names:
            path = os.path.join(place, name)  # noqa: PTH118 - many files
            reason = _reason_for_folder(path, name) if kind == "folder" else None
            if reason is None and specs and _ignores(specs, path, kind):
                reason = IGNORED
            if reason is None:
                kept.append(name)
            else:
                self._noted[path] = kind, reason
        return kept

    def note_excluded(self, name: str, pattern: str) -> None:
        """Count a named file that a pattern excludes."""
        here = f"{escape(Path.cwd().as_posix())}/"
        self._noted[name] = "file", f"{EXCLUDED} {pattern.removeprefix(here)}"

    def counts(self, checked: Iterable[str]) -> dict[str, int]:
        """Return how many files and folders were left out, by kind and reason.

        One of the `checked` files may be named besides its folder.
        """
        named = {os.path.abspath(name) for name in checked} if self._noted else set()  # noqa: PTH100
        counted = Counter(noted for path, noted in self._noted.items() if path not in named)
        return {
            f"{kind}{'s' * (number != 1)} {reason}": number
            for (kind, reason), number in sorted(counted.items())
        }

    def _specs_of(self, folder: str) -> _Specs:
        if folder not in self._specs:
            parent = os.path.dirname(folder)  # noqa: PTH120 - many folders
            above = self._specs.get(parent)
            if above is None:
                above = _specs_above(Path(folder))
            self._specs[folder] = (*above, *_spec_in(folder))
        return self._specs[folder]


def _reason_for_folder(path: str, name: str) -> str | None:
    if name.startswith("."):
        return HIDDEN
    is_environment = os.path.exists(os.path.join(path, "pyvenv.cfg"))  # noqa: PTH110, PTH118 - many
    return INSTALLED if name in VENDORED or is_environment else None


def _specs_above(folder: Path) -> _Specs:
    """Return the ignore files above a search that do not ignore the searched folder itself."""
    tops = [each for each in (folder, *folder.parents) if (each / ".git").exists()]
    found: _Specs = ()
    for above in reversed(folder.parents) if tops else ():
        if above.is_relative_to(tops[0]):
            found += _spec_in(str(above))
    return () if found and _ignores(found, str(folder), "folder") else found


def _spec_in(folder: str) -> _Specs:
    path = os.path.join(folder, IGNORE_FILE)  # noqa: PTH118 - many folders
    if os.path.isfile(path) and not os.path.islink(path):  # noqa: PTH113, PTH114 - as git
        with suppress(OSError, ValueError):  # a damaged one has no influence
            text = read_within(path, DEFAULT_LIMITS.file_bytes).decode("utf-8")
            # Slow to import, and most folders have no such file.
            from pathspec import GitIgnoreSpec

            return ((folder, GitIgnoreSpec.from_lines(text.splitlines())),)
    return ()


def _ignores(specs: _Specs, path: str, kind: str) -> bool:
    """Return what the innermost ignore file with a matching pattern decides."""
    for folder, spec in reversed(specs):
        inner = path[len(folder) :].replace(os.sep, "/").removeprefix("/")
        found = spec.check_file(f"{inner}/" if kind == "folder" else inner).include
        if found is not None:
            return bool(found)
    return False
