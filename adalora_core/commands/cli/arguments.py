"""Parse the arguments of a subcommand, limits of documents and processes among them."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from adalora_core.commands.session import SESSION
from adalora_core.floor.escaping import visible
from adalora_core.floor.limits import Limits
from adalora_core.floor.worker import Bounds

_UNITS = {unit: 1000**power for power, unit in enumerate(("b", "kb", "mb", "gb"))} | {
    unit: 1024**power for power, unit in enumerate(("", "kib", "mib", "gib"))
}
BOUNDS = {
    "processor-seconds": "seconds", "memory-bytes": "memory", "wall-seconds": "wall_seconds"
}  # fmt: skip
"""The bounds of a process, `{name of the limit: name in Bounds}`."""
_COUNTS = {"k": 1000, "m": 1000**2}


def similar(words: Iterable[str], known: Iterable[str]) -> str:
    """Return `; did you mean NAME?` for words that nobody knows; empty if no name is similar."""
    from difflib import get_close_matches  # slow to import

    names = list(known)
    found = [name for word in words for name in get_close_matches(word, names, n=1)]
    return f"; did you mean {' '.join(dict.fromkeys(found))}?" if found else ""


def flag(help_: str) -> dict[str, Any]:
    """Return the details of an option without a value."""
    return {"action": "store_true", "help": help_}


def text(metavar: str, help_: str) -> dict[str, Any]:
    """Return the details of an argument with a value."""
    return {"metavar": metavar, "help": help_}


def texts(metavar: str, help_: str) -> dict[str, Any]:
    """Return the details of an option that may be repeated."""
    return {"action": "append", "default": [], "metavar": metavar, "help": help_}


def size(value: str) -> int | float:
    """Read a number of bytes, such as `20MB`, `1.5GiB` or `20000000`; a part, `50%`, as a float."""
    amount, unit = _amount(value)
    if unit == "%":
        return amount / 100
    if unit not in _UNITS:
        expected = "a size such as 20MB, 1.5GiB, 20000000 (bytes) or 50%"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {value!r}")
    return int(amount * _UNITS[unit])


def part(value: str) -> float:
    """Read a part of a whole, such as `0.95` or `95%`."""
    try:
        return float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        expected = "a part such as 0.95 or 95%"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {value!r}") from None


def budget(value: str) -> tuple[int, str, bool]:
    """Read bytes as `size` does, or a number of parameters or triplets.

    Return it with its unit, and whether bytes are counted by 1024.
    """
    amount, unit = _amount(value)
    count, _, what = unit.rpartition(" ")
    if count in {"", *_COUNTS} and what in {"parameters", "triplets"}:
        return int(amount * _COUNTS.get(count, 1)), what, False
    if unit in _COUNTS:
        return int(amount * _COUNTS[unit]), "parameters", False
    if unit not in _UNITS:
        expected = "an amount such as 20MB, 2M, 2000000 parameters or 500 triplets"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {value!r}")
    return int(amount * _UNITS[unit]), "bytes", unit.endswith("ib")


def _amount(value: str) -> tuple[float, str]:
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?([a-z% ]*)", value.strip().lower())
    return (float(found[1]), found[2]) if found else (0, "?")


def choice(choices: Sequence[str], help_: str, default: str | None = None) -> dict[str, Any]:
    """Return the details of an option with one of a few values."""
    return {"choices": choices, "default": default, "help": help_}


def add(group: argparse._ActionsContainer, arguments: Mapping[str, dict[str, Any]]) -> None:
    """Add arguments to a parser, or to a group of it, by their names and details."""
    for names, details in arguments.items():
        group.add_argument(*names.split(), **details)


def parse_limits(
    settings: Iterable[str], bounds: Bounds, *, lowers_only: bool = False, of_documents: bool = True
) -> tuple[Limits, Bounds]:
    """Read `NAME=NUMBER` settings, as `--limit` takes them: limits of documents, and `bounds`.

    Args:
        settings: the settings; of two with one name the later one holds.
        bounds: the bounds that a process has without them.
        lowers_only: whether no setting may raise a limit.
        of_documents: whether limits of documents have a meaning.

    Raises:
        ValueError: a name is unknown, or a number is wrong or too large.
    """
    limits = {name.replace("_", "-"): each for name, each in dataclasses.asdict(Limits()).items()}
    known = (limits if of_documents else {}) | {
        name: getattr(bounds, own) for name, own in BOUNDS.items()
    }
    found = dict(known)
    for setting in settings:
        name, _, number = (part.strip() for part in setting.partition("="))
        name = name.replace("_", "-")
        if name not in known or not re.fullmatch(r"0*[1-9]\d{0,11}", number, re.ASCII):
            raise ValueError(
                f"a limit should be NAME=NUMBER, with a name of {', '.join(known)} and a number "
                f"from 1 to 999999999999, got {setting!r}"
            )
        if lowers_only and int(number) > known[name]:
            raise ValueError(
                f"a file of settings may lower {name}, which is {known[name]}, and not raise it, "
                f"got {setting!r}; pass --limit for more"
            )
        found[name] = int(number)
    changed = {own: found[name] for name, own in BOUNDS.items()}
    return (
        Limits(**{name.replace("-", "_"): found.get(name, each) for name, each in limits.items()}),
        Bounds(**changed, of_data=bounds.of_data),
    )


class _SetBound(argparse.Action):
    """Sets a bound of this process as soon as the option is read."""

    def __call__(self, parser: Any, _: Any, setting: Any, __: Any = None) -> None:
        try:
            SESSION.set_bounds(parse_limits([setting], SESSION.bounds, of_documents=False)[1])
        except ValueError as error:
            parser.error(f"--limit: {error}")


BOUND = {
    "--limit": {
        "action": _SetBound,
        **text("NAME=NUMBER", "change a bound: processor-seconds, memory-bytes, wall-seconds"),
    }
}
"""The option that changes the bounds of a command."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are safe to print: names of files may be hostile.

    The help begins with a sentence and with `examples`, `{command line: what it does}`.
    """

    def __init__(
        self, sentence: str = "", examples: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        self._sentence, self._examples = sentence, examples or {}
        # Without a width each argument would import shutil, which is slow.
        formatter = partial(argparse.HelpFormatter, width=80)
        super().__init__(formatter_class=formatter, **options)

    def format_help(self) -> str:
        """Return the help in the width of the terminal."""
        import shutil
        import textwrap

        columns = shutil.get_terminal_size().columns - 2
        self.formatter_class = partial(argparse.HelpFormatter, width=columns)
        width = max(map(len, self._examples), default=0)
        lines = [f"  {line:<{width}}  {what}" for line, what in self._examples.items()]
        return "\n".join(
            [*textwrap.wrap(self._sentence, columns), "", *lines, "", super().format_help()]
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all arguments; the error for an unknown option names a similar one."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            names = [each.partition("=")[0] for each in unknown if each.startswith("--")]
            meant = similar(names, self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{meant}")
        return options

    def error(self, message: str) -> NoReturn:
        """Print the escaped message and where the options are listed, and exit with 2."""
        help_ = f"'{self.prog} --help' lists the arguments"
        self.exit(2, f"{self.prog}: error: {visible(message)}\n{help_}\n")
