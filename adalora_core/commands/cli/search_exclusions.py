"""Decide what a search leaves out: ignored files, hidden folders and folders of packages."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

from adalora_core.floor.files import read_within
from adalora_core.floor.limits import DEFAULT_LIMITS

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
