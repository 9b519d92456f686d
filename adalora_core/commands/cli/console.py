"""Parse the arguments of a subcommand, print what it reports, and name the exit codes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn, TextIO

from adalora_core.commands.session import SESSION
from adalora_core.floor.escaping import visible
from adalora_core.floor.limits import Limits
from adalora_core.floor.worker import Bounds

FINE = 0
"""No finding at or above the fail level."""

FINDINGS = 1
"""Findings; content that cannot be parsed is one."""

CANNOT_RUN = 2
"""Wrong usage, a missing or unreadable file, or nothing to check."""

INTERRUPTED = 130
"""Stopped from the keyboard: 128 plus the number of SIGINT, as in a shell."""

TERMINATED = 143
"""Ended by another program: 128 plus the number of SIGTERM."""

_WHOLE = re.compile(r" *\d* \||  --> | {8}")
"""How lines begin that are not wrapped."""


def print_text(text: str, *, to_stderr: bool = False) -> None:
    """Print a report; a closed pipe is not an error."""
    stream = sys.stderr if to_stderr else sys.stdout
    if stream is None:  # closed before this process started
        return
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        # Escape the characters that the terminal cannot show.
        reconfigure(errors="backslashreplace")
    with _broken_pipe_passes(stream):
        stream.write(text)
        stream.flush()


def print_json(**entries: object) -> None:
    """Print values as JSON, with the version of their format."""
    print_text(json.dumps({"version": 1, **entries}, indent=2) + "\n")


def print_bytes(content: bytes) -> None:
    """Print the content of a file, or a difference, byte for byte."""
    if sys.stdout is None:
        return
    with _broken_pipe_passes(sys.stdout):
        sys.stdout.flush()
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is None:  # a caller in Python replaced standard output
            sys.stdout.write(content.decode("utf-8", "backslashreplace"))
        else:
            buffer.write(content)
        sys.stdout.flush()


@contextlib.contextmanager
def _broken_pipe_passes(stream: TextIO) -> Iterator[None]:
    try:
        with SESSION.waiting():
            yield
    except OSError as error:
        # Python flushes once more at exit: discard that output.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, getattr(stream, "name", None)) from None


def wrapped(text: str) -> str:
    """Break long lines between words where standard output is a terminal.

    Excerpts of a file, places in it and lines to be pasted stay whole.
    """
    if not is_terminal():
        return text
    import shutil
    import textwrap

    columns = shutil.get_terminal_size().columns
    wrapper = textwrap.TextWrapper(columns, break_long_words=False, break_on_hyphens=False)
    lines = []
    for line in text.splitlines():
        wrapper.subsequent_indent = " " * (len(line) - len(line.lstrip()) + 2)
        is_whole = len(line) <= columns or _WHOLE.match(line)
        lines += [line] if is_whole else wrapper.wrap(line)
    return "".join(f"{line}\n" for line in lines)


def wants_colour(choice: str) -> bool:
    """Decide on colours by `--color`, NO_COLOR, FORCE_COLOR, TERM and the kind of output."""
    if choice != "auto":
        return choice == "always"
    if os.environ.get("NO_COLOR"):
        return False
    has_colours = is_terminal() and os.environ.get("TERM") != "dumb"
    return bool(os.environ.get("FORCE_COLOR")) or has_colours


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()


def fail(command: str, error: Exception | str) -> int:
    """Print why `adalora COMMAND` could not run, and return the exit code 2."""
    from adalora_core.config.findings import ConfigError

    # The lines of a report hold no line break of the file; another message may hold one.
    if isinstance(error, ConfigError):
        lines = ["the configuration has errors", *str(error).split("\n")]
    else:
        # The function behind a command begins its messages with its own name.
        lines = [in_one_line(error).removeprefix(f"{command.replace('-', '_')}: ")]
    shown = "\n".join(visible(line) for line in lines)
    print(f"adalora {visible(command)}: {shown}", file=sys.stderr)
    return CANNOT_RUN


def in_one_line(error: Exception | str) -> str:
    """Return the message of an error, with the name of its file."""
    if isinstance(error, OSError) and error.strerror is not None:
        # Without the error number, which helps nobody.
        place = "" if error.filename is None else f"{error.filename}: "
        return f"{place}{error.strerror}"
    return str(error)


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


def budget(value: str) -> tuple[int, str, bool]:
    """Read bytes as `size` does, or a number of parameters or triplets.

    Return it with its unit, and whether bytes are counted by 1024.
    """
    amount, unit = _amount(value)
    count, _, what = (f"{unit} parameters" if unit in _COUNTS else unit).rpartition(" ")
    if what in {"parameters", "triplets"} and count in {"", *_COUNTS}:
        return int(amount * _COUNTS.get(count, 1)), what, False
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

    The help begins with a sentence and with `examples`, `{command line: what it does}`. The
    arguments are `{names: details}`.
    """

    def __init__(
        self,
        command: str,
        sentence: str,
        examples: Mapping[str, str],
        arguments: Mapping[str, dict[str, Any]],
        **options: Any,
    ) -> None:
        self._sentence, self._examples = sentence, examples
        # Without a width each argument would import shutil, which is slow.
        formatter = partial(argparse.HelpFormatter, width=80)
        super().__init__(prog=f"adalora {command}", formatter_class=formatter, **options)
        add(self, arguments)

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
