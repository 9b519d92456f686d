"""List the files that the arguments of `adalora check` name, and rewrite one of them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from adalora_core.checker.documents import read_bytes
from adalora_core.checker.documents.document import SUFFIXES
from adalora_core.checker.pipeline.suppression import WILDCARDS, fits
from adalora_core.floor.files import is_inside, write_file

if TYPE_CHECKING:
    from adalora_core.commands.cli.settings import SearchExclusions
    from adalora_core.floor.limits import Limits

STDIN = "-"
NO_NAME = "<stdin>"
"""The name of standard input in reports, if none is given."""
_UNMATCHED = "no file matches this pattern"
_WRITABLE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
LINK_OUT = "a link out of the checked tree is not followed; pass --follow-links to follow it"


@dataclass(frozen=True, slots=True)
class Target:
    """A file to check, or `-` for standard input.

    If an argument `was_named` like it, it must hold a configuration. `problem` is the reason why it
    is not read, in spite of which the run `may_pass`. `top` is the folder that was searched for it.
    """

    name: str
    was_named: bool
    problem: OSError | None = None
    may_pass: bool = False
    top: str | None = None

    @property
    def tree(self) -> Path:
        """The folder that is checked: the working folder, or a searched one elsewhere."""
        path, here = Path(os.path.abspath(self.name)), Path.cwd()  # noqa: PTH100 - keeps links
        above = path.parent if self.top is None else Path(os.path.abspath(self.top))  # noqa: PTH100
        return here if path.is_relative_to(here) else above

    @property
    def is_unmatched(self) -> bool:
        """Whether this is a pattern that matches no file."""
        return self.problem is not None and self.problem.strerror == _UNMATCHED


def targets(
    arguments: Sequence[str],
    exclude: Sequence[str],
    follow: bool | None = None,
    exclusions: SearchExclusions | None = None,
) -> Iterator[Target]:
    """Yield the files of all arguments in a fixed order, each once, whatever links lead to it.

    A folder means the files below it with a suffix of a known format, without hidden folders. A
    pattern means the files that it matches; `**` matches folders of any depth. A name that does not
    exist is yielded too, so that the reader reports the missing file.

    Links out of the tree are followed if `follow`; if it is None, only those that are arguments.
    `exclusions` decide what a search of a folder leaves out, besides hidden folders, and count that
    and the named files that are excluded.
    """
    found: dict[str, Target] = {}
    for argument in arguments:
        for target in _expand(argument, follow, exclusions):
            if target.name in found:
                continue
            pattern = next((each for each in exclude if fits(target.name, each)), None)
            if pattern is None:
                found[target.name] = target
            elif exclusions and target.was_named:
                exclusions.note_excluded(target.name, pattern)
    yield from _without_links_to_others(found.values())


def _without_links_to_others(found: Collection[Target]) -> Iterator[Target]:
    """Yield the targets without links to files that are targets under their own names.

    Several links to one file that is not a target itself are one target for each suffix, which
    decides on the format. A hard link is a file of its own: a fix replaces one of the names.
    """
    numbers = {target.name: _number(target) for target in found}
    counts = Counter(numbers.values())
    real = {  # slow, and most files have one name
        name: os.path.realpath(name) if number and counts[number] > 1 else name
        for name, number in numbers.items()
    }
    kept: dict[tuple[str, str], Target] = {}
    # `sorted` is stable: own names come first, then links in the order of the search.
    for target in sorted(found, key=lambda each: os.path.abspath(each.name) != real[each.name]):  # noqa: PTH100 - keeps links
        # A link with another suffix is read in another format, and PEFT may read it too.
        key = real[target.name], Path(target.name).suffix
        first = kept.setdefault(key, target)
        named = first.was_named or target.was_named
        kept[key] = dataclasses.replace(first, was_named=named)
    targets_ = {target.name: target for target in kept.values()}
    yield from (targets_[target.name] for target in found if target.name in targets_)


def _number(target: Target) -> tuple[int, int] | None:
    """Return what two names of one file have in common; None: the file cannot be read."""
    if target.problem is not None or target.name == STDIN:
        return None
    try:
        found = os.stat(target.name)  # noqa: PTH116 - faster, for long lists of files
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _not_followed(name: str, *, may_pass: bool = False) -> Target:
    return Target(name, False, OSError(errno.ELOOP, LINK_OUT, name), may_pass)


def _expand(
    argument: str, follow: bool | None, exclusions: SearchExclusions | None
) -> Iterator[Target]:
    is_folder = os.path.isdir(argument)  # noqa: PTH112 - faster, for long lists of files
    is_pattern = not (is_folder or WILDCARDS.isdisjoint(argument) or Path(argument).exists())
    # The folder that a pattern names before its first wildcard.
    fixed = os.path.dirname(re.split(r"[*?[]", argument, maxsplit=1)[0]) or "."  # noqa: PTH120
    top = fixed if is_pattern else argument
    if argument == STDIN:
        yield Target(STDIN, was_named=True)
    elif follow is False and not is_inside(top, Target(top, was_named=True).tree):
        yield _not_followed(argument)
    elif is_folder:
        yield from _below(argument, exclusions, follow=bool(follow))
    elif is_pattern:
        error = OSError(errno.ENOENT, _UNMATCHED, argument)
        matching = list(_matching(argument, top, follow=bool(follow)))
        yield from matching or [Target(argument, was_named=False, problem=error, may_pass=True)]
    else:
        yield Target(argument, was_named=True)


def _matching(pattern: str, tree: str, *, follow: bool) -> Iterator[Target]:
    found: dict[str, Target] = {}
    for each in _without_double_stars("", pattern, tree, follow=follow):
        if isinstance(each, Target):
            found[each.name] = each
            continue
        folder, rest = each
        for inner in glob.glob(rest, root_dir=folder):  # noqa: PTH207 - keeps the spelling
            name = f"{folder}{inner}"
            mode = _mode(name)
            if not follow and not is_inside(name, tree):
                found[name] = _not_followed(name, may_pass=stat.S_ISDIR(mode))
            elif mode and not stat.S_ISDIR(mode):
                found[name] = Target(name, was_named=False, top=tree)
    yield from (found[name] for name in sorted(found))


def _without_double_stars(
    above: str, pattern: str, tree: str, *, follow: bool
) -> Iterator[tuple[str, str] | Target]:
    """Yield folders and patterns without `**` that together match as `pattern` does in `above`.

    Links that are not followed are yielded too. The module glob follows every link to a folder on
    its way, also without end.
    """
    split = re.fullmatch(r"((?:.*?/)?)\*\*(?:/+(.*))?", pattern, re.DOTALL)
    if split is None:
        yield above, pattern
        return
    tops = glob.glob(split[1], root_dir=above) if split[1] else [""]  # noqa: PTH207 - same
    for top in (f"{above}{each}" for each in tops):
        if not follow and not is_inside(top, tree):
            yield _not_followed(top.rstrip("/"), may_pass=True)
            continue
        for folder, _, problems in _folders(top, tree, follow=follow):
            yield from problems
            yield from _without_double_stars(folder, split[2] or "*", tree, follow=follow)


def _below(top: str, exclusions: SearchExclusions | None, *, follow: bool) -> Iterator[Target]:
    for folder, files, problems in _folders(top, top, exclusions, follow=follow):
        yield from problems
        base = str(Path(folder))
        names = [
            name
            for name in sorted(files)
            if os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - many files
        ]
        for name in names if exclusions is None else exclusions.kept(folder, names, "file"):
            path = name if base == "." else os.path.join(base, name)  # noqa: PTH118 - many files
            mode = _mode(path, follow_links=False)
            if stat.S_ISLNK(mode):
                if not follow and not is_inside(path, top):
                    yield _not_followed(path)
                    continue
                mode = _mode(path)  # dangling links, as editors make them, are no files
            if mode:
                yield Target(path, was_named=False, top=top)


def _folders(
    top: str, tree: str, exclusions: SearchExclusions | None = None, *, follow: bool
) -> Iterator[tuple[str, list[str], list[Target]]]:
    """Yield each folder at or below `top`, its files, and what cannot be searched.

    Folders end with a slash. A folder is searched once, by whatever links it is reached. Without
    `exclusions` hidden folders are left out.
    """
    problems: list[Target] = []
    waiting = [(top or ".", os.path.realpath(top))]
    seen = {waiting[0][1]}
    while waiting:  # os.walk ends in a RecursionError before Python 3.12
        root, real_root = waiting.pop()
        try:
            folders, files = _entries(root)
        except OSError as error:
            name = str(Path(root))
            problems.append(Target(name, False, OSError(error.errno, error.strerror, name)))
            continue
        inner = []
        if exclusions is None:
            names = [name for name in sorted(folders) if not name.startswith(".")]
        else:  # git tracks nothing in .git
            names = exclusions.kept(root, sorted({*folders} - {".git"}), "folder")
        for name in names:
            path = os.path.join(root, name)  # noqa: PTH118 - fast
            is_link = os.path.islink(path)  # noqa: PTH114 - fast
            if is_link and not follow:
                if not is_inside(path, tree):
                    problems.append(_not_followed(str(Path(path)), may_pass=True))
                continue
            real = os.path.realpath(path) if is_link else os.path.join(real_root, name)  # noqa: PTH118 - fast
            if real not in seen:
                seen.add(real)
                inner.append((path, real))
        waiting += reversed(inner)
        shown = root if top else root.removeprefix(".").removeprefix("/")
        yield (f"{shown.rstrip('/')}/" if shown else ""), files, problems
        problems.clear()
    if problems:
        yield top, [], problems


def _entries(folder: str) -> tuple[list[str], list[str]]:
    folders: list[str] = []
    files: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            is_folder = False
            with contextlib.suppress(OSError):
                is_folder = entry.is_dir()
            (folders if is_folder else files).append(entry.name)
    return folders, files


def _mode(name: str, *, follow_links: bool = True) -> int:
    """Return the mode of a file; 0 if there is none."""
    try:
        return os.stat(name, follow_symlinks=follow_links).st_mode  # noqa: PTH116 - many files
    except OSError as error:
        # Where the folder is closed, the reader of the file reports that.
        is_missing = error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
        return 0 if is_missing else stat.S_IFREG


def rewrite(target: Target, old: bytes, new: bytes, limits: Limits) -> None:
    """Replace the content of a file, whole or not at all; keep its mode and owner.

    Raises:
        OSError: a link leads from its tree to the file, or the file is read-only, changed since the
            check, or cannot be written; it keeps its content.
    """
    tree = os.path.realpath(target.tree)
    inner = os.path.relpath(os.path.abspath(target.name), os.path.abspath(target.tree))  # noqa: PTH100 - keeps links
    path = Path(tree, inner)
    try:
        # The working folder stays what it is, whatever is put in the place of its name.
        with contextlib.chdir(path.parent):
            here = Path(path.name)
            if Path.cwd() != path.parent or here.is_symlink():
                _refuse(errno.ELOOP, "a link leads to the file; name the file itself")
            # A writable folder allows to replace a read-only file, and root may write any file.
            if not here.stat().st_mode & _WRITABLE or not os.access(here, os.W_OK):
                _refuse(errno.EACCES, "the file is read-only")
            if read_bytes(here, limits, "notebook") != old:  # the format that allows the most
                _refuse(errno.EBUSY, "the file changed while it was checked")
            write_file(here, new)
    except OSError as error:
        raise OSError(error.errno, f"not written: {error.strerror}", target.name) from None


def _refuse(number: int, why: str) -> NoReturn:
    raise OSError(number, why)
