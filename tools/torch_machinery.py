"""Make docs/torch-machinery.md by running torch's machinery over adapted models.

    python tools/torch_machinery.py [WORD ...]   # print the rows whose names have all words

A cell compares a model of one backend and one door with the reference, plain torch. It is the
error, or the refusal of this package, or of PEFT to make the model. Anything else is a fault:
all are listed, and nothing is written.
"""

from __future__ import annotations

import contextlib
import dis
import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from machinery_models import BACKENDS, DOORS, adapted, reference, through
from machinery_probes import ROWS, Row, batch
from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).parents[1] / "docs" / "torch-machinery.md"
COLUMNS = [(backend, door) for backend in BACKENDS for door in DOORS]
SMALLEST_EXPONENT = -5
"""Errors below this power of ten are rounding, and differ between processors."""
FAULT = "fault: "


class NotMadeError(Exception):
    """PEFT cannot make the model."""


def cell(row: Row, backend: str, door: str) -> str:
    """Return the error of one cell, as a power of ten that bounds it, or the refusal or fault."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            expected = run(row, None)
            with through(door, backend):
                found = run(row, door)
    except ModuleNotFoundError:
        raise  # regenerate.py names the extra
    except Exception as error:  # noqa: BLE001 - the cell reports any failure
        message = " ".join(str(error).split())
        return f"refused: {message}" if is_refusal(error) else f"{FAULT}{error!r}"
    error = distance(found, expected)
    exponent = SMALLEST_EXPONENT
    while error >= 10.0**exponent:
        exponent += 1
    return f"< 1e{exponent}" if error <= row.tolerance else f"{FAULT}the error is {error:.1e}"


def run(row: Row, door: str | None) -> Sequence[torch.Tensor]:
    """Return the results of one probe; without a door those of the reference."""
    torch.manual_seed(0)
    made: Any = row.base() if door or row.plain_base is None else row.plain_base()
    with contextlib.nullcontext(made) if isinstance(made, torch.nn.Module) else made as base:
        if door is None:
            return (row.plain or row.probe)(reference(base), batch())
        try:
            model = adapted(base, door)
        except Exception as error:
            if _origin(error)[0] == "peft":
                raise NotMadeError(f"PEFT does not make such a model: {error}") from error
            raise
        return row.probe(model, batch())


def is_refusal(error: Exception) -> bool:
    """Return whether this package raised `error`, and not torch in a call of this package."""
    return isinstance(error, NotMadeError) or _origin(error) == ("adalora_core", True)


def _origin(error: Exception) -> tuple[str, bool]:
    """Return the package where `error` comes from, and whether a statement there raised it."""
    place: Any = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    package = str(place.tb_frame.f_globals["__name__"]).partition(".")[0]
    operation = place.tb_frame.f_code.co_code[place.tb_lasti]
    return package, operation == dis.opmap["RAISE_VARARGS"]


def distance(found: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> float:
    """Return the largest difference of two results, relative to the largest entry of each."""
    pairs = [*zip(found, expected, strict=True)]
    return max(
        ((one.double() - other.double()).abs().max() / other.double().abs().max().clamp_min(1e-3))
        .detach()
        .item()
        for one, other in pairs
    )


def table(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the cells of each row.

    Raises:
        SystemExit: a cell is neither as the reference nor refused.
    """
    cells = {}
    logging.disable()  # of the exporters
    try:
        for row in tqdm(rows, desc="machinery", file=sys.stderr):
            cells[row.machinery] = [cell(row, *column) for column in COLUMNS]
    finally:
        logging.disable(logging.NOTSET)
    faults = [
        f"{name}, {', '.join(column)}: {each}"
        for name, found in cells.items()
        for column, each in zip(COLUMNS, found, strict=True)
        if each.startswith(FAULT)
    ]
    if faults:
        raise SystemExit("neither as the reference nor refused:\n" + "\n".join(faults))
    return cells


def page() -> str:
    """Return the whole page; the committed one if only errors differ."""
    notes: list[str] = []
    served: dict[float, list[str]] = {}
    tolerances = {row.machinery: row.tolerance for row in ROWS}
    rows = []
    for name, cells in table(ROWS).items():
        if any(each.startswith("refused") for each in cells):
            rows.append(f"| {name} | {' | '.join(_noted(each, notes) for each in cells)} |")
        else:
            served.setdefault(tolerances[name], []).append(name)
    lines = [
        "# Torch's machinery",
        "",
        (
            "An adapted model under what records, transforms or changes it: the largest error, "
            "relative to the largest entry, beside layers of plain torch; or a refusal, whose "
            "sentence is below. `python tools/regenerate.py machinery` runs every cell; each row "
            "is a function of `tools/machinery_probes.py`."
        ),
        "",
        (
            "Without a refusal, on both [backends](architecture.md#layers) and through all doors "
            "([our own API](training.md), the "
            "[changed import](coming-from-peft.md#change-the-import), and "
            "[a model that is attached](coming-from-peft.md#attach)):"
        ),
        "",
        *(f"- within {most:g}: {'; '.join(names)}" for most, names in served.items()),
        "",
        f"| | {' | '.join(f'{backend}, {door}' for backend, door in COLUMNS)} |",
        f"|---|{'---|' * len(COLUMNS)}",
        *rows,
    ]
    lines += ["", *(f"{place}. {note}" for place, note in enumerate(notes, 1)), ""]
    made = "\n".join(lines)
    held = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    return held if _without_errors(held) == _without_errors(made) else made


def _noted(cell: str, notes: list[str]) -> str:
    kind, is_refused, sentence = cell.partition(": ")
    if not is_refused:
        return cell
    if sentence not in notes:
        notes.append(sentence)
    return f"{kind} ({notes.index(sentence) + 1})"


def _without_errors(text: str) -> str:
    return re.sub(r"< 1e-?\d+", "< error", text)


if __name__ == "__main__":
    chosen = [row for row in ROWS if all(word in row.machinery for word in sys.argv[1:])]
    for name, cells in table(chosen).items():
        print(name, *cells, sep=" | ", flush=True)
