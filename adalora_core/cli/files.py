"""List the files that the arguments of `adalora check` name."""

from __future__ import annotations

import errno
import glob
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adalora_core.contract.pipeline.selection import WILDCARDS, fits
from adalora_core.contract.text.formats import SUFFIXES
from adalora_core.contract.text.reading import is_inside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STDIN = "-"
_NOT_FOLLOWED = "a link out of the checked tree is not followed; pass --follow-links to follow it"


@dataclass(frozen=True, slots=True)
class Target:
    """A file to check.

    Args:
        name: the path for the report; `-` for standard input.
        was_named: whether an argument is this very file, which must then hold a configuration.
        problem: the reason why the file, or a folder, is not read; None: the file is to be read.
        may_pass: whether the run may pass in spite of the problem.
    """

    name: str
    was_named: bool
    problem: OSError | None = None
    may_pass: bool = False


def targets(
    arguments: Sequence[str], exclude: Sequence[str], follow: bool | None = None
) -> Iterator[Target]:
    """Yield the files of all arguments in a fixed order, each once.

    A folder means the JSON, YAML and TOML files below it, without hidden folders. A pattern means
    the files that it matches; `**` matches folders of any depth. A name that does not exist is
    yielded too, so that the reader reports the missing file.

    Args:
        arguments: files, folders, patterns, and `-`.
        exclude: patterns of the files to leave out.
        follow: whether to follow links out of the tree; None: only links that are arguments.
    """
    seen = set()
    for argument in arguments:
        for target in _expand(argument, follow):
            if target.name in seen or _is_excluded(target.name, exclude):
                continue
            seen.add(target.name)
            yield target


def link_out(name: str) -> OSError | None:
    """Return an error if links lead from a named path out of its tree, else None.

    The tree is the working folder or, for a path elsewhere, the folder that holds it.
    """
    path, here = Path(os.path.abspath(name)), Path.cwd()  # noqa: PTH100 - keeps links
    tree = here if path.is_relative_to(here) else path.parent
    return None if is_inside(name, tree) else _not_followed(name).problem


def _not_followed(name: str, *, may_pass: bool = False) -> Target:
    return Target(name, False, OSError(errno.ELOOP, _NOT_FOLLOWED, name), may_pass)


def _expand(argument: str, follow: bool | None) -> Iterator[Target]:
    is_folder = os.path.isdir(argument)  # noqa: PTH112 - faster, for long lists of files
    is_pattern = not (is_folder or WILDCARDS.isdisjoint(argument) or Path(argument).exists())
    top = _fixed_part(argument) if is_pattern else argument
    if argument == STDIN:
        yield Target(STDIN, was_named=True)
    elif follow is False and link_out(top):
        yield _not_followed(argument)
    elif is_folder:
        yield from _below(argument, follow=bool(follow))
    elif is_pattern:
        yield from _matching(argument, top, follow=bool(follow))
    else:
        yield Target(argument, was_named=True)


def _fixed_part(pattern: str) -> str:
    """Return the folder that a pattern names before its first wildcard."""
    return os.path.dirname(re.split(r"[*?[]", pattern, maxsplit=1)[0]) or "."  # noqa: PTH120


def _matching(pattern: str, tree: str, *, follow: bool) -> Iterator[Target]:
    found: dict[str, Target] = {}
    for each in _without_double_stars(pattern, tree, follow=follow):
        if isinstance(each, Target):
            found[each.name] = each
            continue
        for name in glob.glob(each):  # noqa: PTH207 - keeps the spelling
            mode = _mode(Path(name))
            if not follow and not is_inside(name, tree):
                found[name] = _not_followed(name, may_pass=stat.S_ISDIR(mode))
            elif mode and not stat.S_ISDIR(mode):
                found[name] = Target(name, was_named=False)
    yield from (found[name] for name in sorted(found))


def _without_double_stars(pattern: str, tree: str, *, follow: bool) -> Iterator[str | Target]:
    """Yield patterns without `**` that together match the same, and the links not followed.

    The module glob follows every link to a folder on its way, also without end.
    """
    split = re.fullmatch(r"((?:.*?/)?)\*\*(?:/+(.*))?", pattern, re.DOTALL)
    if split is None:
        yield pattern
        return
    for top in glob.glob(split[1]) if split[1] else [""]:  # noqa: PTH207 - keeps the spelling
        if not follow and not is_inside(top, tree):
            yield _not_followed(top.rstrip("/"), may_pass=True)
            continue
        for folder, _, problems in _folders(top, tree, follow=follow):
            yield from problems
            inner = f"{glob.escape(folder)}{split[2] or '*'}"
            yield from _without_double_stars(inner, tree, follow=follow)


def _below(top: str, *, follow: bool) -> Iterator[Target]:
    for folder, files, problems in _folders(top, top, follow=follow):
        yield from problems
        for name in sorted(files):
            if os.path.splitext(name)[1].lower() not in SUFFIXES:  # noqa: PTH122 - many files
                continue
            path = Path(folder, name)
            mode = _mode(path, follow_links=False)
            if stat.S_ISLNK(mode):
                if not follow and not is_inside(path, top):
                    yield _not_followed(str(path))
                    continue
                mode = _mode(path)  # dangling links, as editors make them, are no files
            if mode:
                yield Target(str(path), was_named=False)


def _folders(top: str, tree: str, *, follow: bool) -> Iterator[tuple[str, list[str], list[Target]]]:
    """Yield each folder at or below `top`, its files, and what cannot be searched.

    Folders end with a slash. A folder is searched once, by whatever links it is reached.
    """
    problems: list[Target] = []

    def refuse(error: OSError) -> None:
        name = str(Path(error.filename))
        problems.append(Target(name, False, OSError(error.errno, error.strerror, name)))

    seen = {os.path.realpath(top)}
    for root, folders, files in os.walk(top or ".", onerror=refuse, followlinks=follow):
        kept = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            path = Path(root, name)
            if follow:
                real = os.path.realpath(path)
                if real in seen:
                    continue
                seen.add(real)
            elif path.is_symlink():
                if not is_inside(path, tree):
                    problems.append(_not_followed(str(path), may_pass=True))
                continue
            kept.append(name)
        folders[:] = kept
        shown = root if top else root.removeprefix(".").removeprefix("/")
        yield (f"{shown.rstrip('/')}/" if shown else ""), files, problems
        problems.clear()
    if problems:
        yield top, [], problems


def _mode(path: Path, *, follow_links: bool = True) -> int:
    """Return the mode of a file; 0 if there is none."""
    try:
        return path.stat(follow_symlinks=follow_links).st_mode
    except OSError as error:
        # Where the folder is closed, the reader of the file reports that.
        is_missing = error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
        return 0 if is_missing else stat.S_IFREG


def _is_excluded(name: str, exclude: Sequence[str]) -> bool:
    return any(fits(name, pattern) for pattern in exclude)
