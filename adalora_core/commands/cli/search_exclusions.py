"""Decide what a search leaves out: files that git ignores, and folders of installed packages."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from glob import escape
from pathlib import Path
from time import thread_time
from typing import Any

from adalora_core.floor.regular_files import read_within

IGNORE_FILE = ".gitignore"
VENDORED = frozenset({"node_modules", "site-packages", "__pypackages__"})
"""Folders of installed packages; a folder with `pyvenv.cfg` is one too."""
IGNORED, INSTALLED, HIDDEN = "ignored by git", "of installed packages", "hidden by a dot"
EXCLUDED = "excluded by"

MOST_BYTES, MOST_LINES, MOST_STARS = 1 << 16, 1000, 3
"""Bounds of a .gitignore that is used: its size, its lines, and the wildcards of one line. Matching
takes time that grows with a power of the number of wildcards."""
LONGEST_PATH, MOST_SECONDS = 1024, 2.0
"""The longest path that is matched, and the CPU time in which a run reads ignore files and matches
them; beyond these nothing is left out."""


class _Repository:
    """A repository and the files that it tracks, listed when they are first needed.

    Tracked files of the repository `outer` around it are never left out either; `path` leads from
    the top of that one to the folder, with a slash at the end.
    """

    def __init__(self, top: str, outer: _Repository | None = None, path: str = "") -> None:
        self._top = top
        self._outer = outer
        self.path = path

    @cached_property
    def _tracked(self) -> frozenset[str] | None:
        """The files that git tracks, and the folders that hold them."""
        from adalora_core.commands.cli.git_index import tracked_files

        names = tracked_files(self._top)
        folders: set[str] = set()
        for name in names or ():
            folder = name.rpartition("/")[0]
            while folder and folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        return None if names is None else names | folders

    def may_leave_out(self, path: str) -> bool:
        """Return whether git tracks neither the path nor anything below it."""
        from adalora_core.commands.cli.git_index import folded

        if self._tracked is None or folded(path) in self._tracked:
            return False
        return self._outer is None or self._outer.may_leave_out(self.path + path)


@dataclass(frozen=True, slots=True)
class _Scope:
    """The repository of a folder and the ignore files that apply to it, with their folders.

    `path` leads from the top of the repository to the folder, with a slash at the end. Without
    `specs` one ignore file cannot be used, so that nothing below it is left out.
    """

    repository: _Repository | None = None
    path: str = ""
    specs: tuple[tuple[str, Any], ...] | None = ()


class SearchExclusions:
    """What the searches of one run leave out, and why.

    `.gitignore` counts in a repository only, and never for a file that git tracks: whoever may
    change an ignore file must not be able to hide another file. With `all_files` searches leave out
    nothing.
    """

    def __init__(self, *, all_files: bool = False) -> None:
        self.all_files = all_files
        self._excluded: dict[str, str] = {}
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._scopes: dict[str, _Scope] = {}
        self._seconds_left = MOST_SECONDS

    def enter(self, folder: str, entries: Collection[str]) -> None:
        """Note the ignore file and the repository of a folder before its entries are asked for."""
        parent, name = os.path.split(folder)
        above = self._scopes.get(parent)
        if above is None:
            self._scopes[folder] = self._scope_from_above(folder)
        else:
            self._scopes[folder] = self._inner(above, f"{name}/", folder, entries)

    def has_folder(self, parent: str, name: str) -> bool:
        """Return whether a folder is left out, and count it."""
        return self._has(self._folders, parent, f"{name}/")

    def has_file(self, parent: str, name: str) -> bool:
        """Return whether a file is left out, and count it."""
        return self._has(self._files, parent, name)

    def hides(self, parent: str, name: str) -> bool:
        """Return whether a hidden folder is left out, and count it."""
        if not self.all_files:
            self._folders[os.path.abspath(os.path.join(parent, name))] = HIDDEN  # noqa: PTH100, PTH118 - fast
        return not self.all_files

    def note_excluded(self, name: str, pattern: str) -> None:
        """Count a named file that a pattern excludes."""
        here = f"{escape(Path.cwd().as_posix())}/"
        self._excluded[name] = f"{EXCLUDED} {pattern.removeprefix(here)}"

    def counts(self, checked: Iterable[str]) -> dict[str, int]:
        """Return how many files and folders were left out, by kind and reason.

        One of the `checked` files may be named besides its folder.
        """
        if self._files:
            for name in checked:
                self._files.pop(os.path.abspath(name), None)  # noqa: PTH100 - keeps links
        files = {**self._files, **self._excluded}
        kinds = ("file", files), ("folder", self._folders)
        return {
            f"{kind}{'' if number == 1 else 's'} {reason}": number
            for kind, reasons in kinds
            for reason, number in Counter(reasons.values()).items()
        }

    def _has(self, noted: dict[str, str], parent: str, name: str) -> bool:
        """Return whether an entry is left out, and note why; a folder ends with a slash."""
        scope = self._scopes[parent]
        if self._ignores(scope, name):
            reason = IGNORED
        elif name.endswith("/") and (
            name[:-1] in VENDORED or _exists(Path(parent, name), "pyvenv.cfg")
        ):
            reason = INSTALLED
        else:
            return False
        name = name.rstrip("/")
        if scope.specs is None:
            return False
        if scope.repository and not scope.repository.may_leave_out(scope.path + name):
            return False
        noted[os.path.abspath(os.path.join(parent, name))] = reason  # noqa: PTH100, PTH118 - fast
        return True

    def _ignores(self, scope: _Scope, name: str) -> bool:
        """Return whether git ignores an entry of a folder; a folder ends with a slash."""
        path = scope.path + name
        if not scope.specs or len(path) > LONGEST_PATH:
            return False
        began = thread_time()
        try:
            # The last pattern that matches decides, of the innermost file that has one.
            for folder, spec in reversed(scope.specs):
                inner = path.removeprefix(folder)
                for pattern in reversed(spec.patterns):
                    if self._seconds_left < thread_time() - began:
                        return False
                    if pattern.include is not None and pattern.match_file(inner):
                        return bool(pattern.include)
            return False
        finally:
            self._seconds_left -= thread_time() - began

    def _scope_from_above(self, folder: str) -> _Scope:
        """Return the scope of a folder where a search begins.

        Nothing above a folder that is named although git ignores it applies to the folder.
        """
        real = Path(os.path.realpath(folder))
        repository, top = None, real
        for folder_above in (*reversed(real.parents), real):
            if _exists(folder_above, ".git"):
                path = "" if repository is None else f"{folder_above.relative_to(top).as_posix()}/"
                repository = _Repository(str(folder_above), repository, path)
                top = folder_above
        if repository is None:
            return _Scope()
        scope = self._with_ignore_file(_Scope(repository), str(top))
        for part in real.relative_to(top).parts:
            top = top / part
            if self._ignores(scope, f"{part}/"):
                scope = _Scope(scope.repository, scope.path)
            scope = self._inner(scope, f"{part}/", str(top), (IGNORE_FILE,))
        return scope

    def _inner(self, above: _Scope, name: str, folder: str, entries: Collection[str]) -> _Scope:
        if ".git" in entries:
            top = os.path.realpath(folder)
            scope = _Scope(_Repository(top, above.repository, above.path + name))
        else:
            scope = _Scope(above.repository, above.path + name, above.specs)
        return self._with_ignore_file(scope, folder) if IGNORE_FILE in entries else scope

    def _with_ignore_file(self, scope: _Scope, folder: str) -> _Scope:
        if scope.repository is None or scope.specs is None:
            return scope
        began = thread_time()
        try:
            text = _read(Path(folder, IGNORE_FILE))
            if text is None:
                return scope
            if self._seconds_left <= 0:
                return _Scope(scope.repository, scope.path, None)
            # Slow to import, and most folders have no such file.
            from pathspec import GitIgnoreSpec

            spec = GitIgnoreSpec.from_lines(_bounded(text))
        except (OSError, ValueError, ImportError):
            return _Scope(scope.repository, scope.path, None)
        finally:
            self._seconds_left -= thread_time() - began
        return _Scope(scope.repository, scope.path, (*scope.specs, (scope.path, spec)))


def _read(path: Path) -> str | None:
    """Return the text of an ignore file; None if there is none, or a link, as to git."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
    except FileNotFoundError:
        return None
    return read_within(path, MOST_BYTES).decode("utf-8")


def _bounded(text: str) -> list[str]:
    """Return the lines of an ignore file; a ValueError for too many, or too many wildcards."""
    lines = text.splitlines()
    if len(lines) > MOST_LINES:
        raise ValueError(f"an ignore file has more than {MOST_LINES} lines")
    for line in lines:
        if line.startswith("#"):
            continue
        middle = line.removeprefix("!").removeprefix("**/").removesuffix("/**")
        if len(re.findall(r"\*+", middle)) > MOST_STARS:
            raise ValueError(f"an ignore file has more than {MOST_STARS} wildcards in one line")
    return lines


def _exists(folder: Path, name: str) -> bool:
    """Return whether a folder has a file; one that is closed is reported when it is searched."""
    return os.path.exists(folder / name)  # noqa: PTH110 - the method raises for a closed folder
