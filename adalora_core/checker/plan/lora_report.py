"""Write the plan of LoRA, rsLoRA or DoRA as a table for a terminal and as JSON values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from adalora_core.checker.plan.header import file_bytes
from adalora_core.checker.plan.modules import Adapted, Injected, layer_of, starred
from adalora_core.checker.plan.plan import share, size_of, without_adapter
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.value_kinds import name_of_value
from adalora_core.floor.escaping import shortened, visible
from adalora_core.floor.rank_pattern import TENSOR_PREFIX, LoraScales

_WIDTH = 79
_NAMES_SHOWN = 8
_KINDS = {"linear": "linear layers", "parameter": "parameters by name"}


def method_of(block: Block) -> str:
    """Return the name of the method that a configuration of LoRA asks for."""
    names = {"use_rslora": "rsLoRA", "use_dora": "DoRA"}
    return " with ".join(name for field, name in names.items() if block[field]) or "LoRA"


def as_text(block: Block, found: Injected | None, notes: Sequence[str]) -> str:
    """Return the plan for a terminal; without a base model what is known then."""
    lines = _head(block)
    if found is None:
        names = (name for name in ("target_modules", "target_parameters") if block[name])
        lines += ["", *(f"{name}: {_shown(block[name])}" for name in names)]
        lines.append("modules, parameters and bytes: add --weights with the model's folder or file")
    else:
        lines += ["", *_table(found)]
    lines += [f"note: {note}" for note in notes]
    return "\n".join(map(_wrapped, lines)) + "\n"


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, (str, list)) else name_of_value(value)


def _head(block: Block) -> list[str]:
    rank, alpha = block["r"], block["lora_alpha"]
    root, divisor = ("sqrt(r)", f"sqrt({rank})") if block["use_rslora"] else ("r", f"{rank}")
    lines = [
        f"{method_of(block)} of rank {rank}",
        f"scale: lora_alpha / {root} = {alpha:g} / {divisor} = {_scale(block):.4g}",
    ]
    patterns = (name for name in ("rank_pattern", "alpha_pattern") if block[name])
    return [*lines, *(f"{n}: other values for {len(block[n])} keys" for n in patterns)]


def _scale(block: Block) -> float:
    values = {name: block[name] for name in ("r", "lora_alpha", "use_rslora")}
    return LoraScales(values).of("").scale


def _table(found: Injected) -> list[str]:
    parameters = found.model.parameters
    rows = [("module", "count", "size", "rank", "scale", "trained"), *_rows(found)]
    width = _WIDTH - sum(max(len(row[n]) for row in rows) + 2 for n in range(1, len(rows[0])))
    width = max(10, width)
    table = _aligned([(shortened(name, width), *rest) for name, *rest in rows])
    kinds = Counter(each.kind for each in found.adapted).items()
    counted = ", ".join(f"{count} {_KINDS.get(kind, kind + 's')}" for kind, count in kinds)
    lines = [f"adapted by {found.asked}: {counted} of a model of {parameters:,} parameters", *table]
    lines += [f"in the layers {layers} alone: {names}" for layers, names in _partly(found)]
    others = _not_adapted(found).most_common()
    if others:
        shown = [f"{name} ({count})" for name, count in others[:_NAMES_SHOWN]]
        more = f" and {len(others) - len(shown)} more names" if len(others) > len(shown) else ""
        lines.append(f"not adapted: {', '.join(shown)}{more}")
    if found.missed:
        missed = Counter(map(_labels(found), (each.path for each in found.missed)))
        shown = [f"{name} ({count})" for name, count in missed.items()]
        lines.append(f"usual for the architecture, and not adapted: {', '.join(shown)}")
    tensors = dict.fromkeys(each.partition(".")[0] for a in found.adapted for each in a.tensors)
    trained = f"trained: {found.count:,} numbers ({share(found.count, parameters)})"
    lines += ["", f"{trained} in {', '.join(tensors)}"]
    if found.beside:
        lines.append(f"{found.beside:,} of them {without_adapter(found)}")
    lines.append(f"file: {size_of(file_bytes(found.file))}")
    if found.carried:
        size = size_of(sum(found.file[name].data_bytes for name in found.carried))
        first = found.carried[0].removeprefix(TENSOR_PREFIX)
        lines.append(f"{size} of it is not trained: PEFT saves {first} too")
    training = size_of(found.training_bytes)
    lines.append(f"training: {training} for factors, gradients and the two moments of AdamW")
    return lines


def _wrapped(line: str) -> str:
    """Return a line as several ones that fit, as it is if it fits."""
    line = visible(line)
    parts = wrap(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return line if len(line) <= _WIDTH else "\n".join(parts)


def _rows(found: Injected) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, ...], list[Adapted]] = {}
    for each in found.adapted:
        key = (starred(each.path), _size(each), str(each.rank), f"{each.scale:.4g}")
        groups.setdefault(key, []).append(each)
    totals = Counter(map(starred, _peers(found)))
    return [
        (
            name,
            f"{len(group)} of {totals[name]}" if len(group) < totals[name] else str(len(group)),
            *rest,
            f"{sum(each.entries for each in group):,}",
        )
        for (name, *rest), group in groups.items()
    ]


def _peers(found: Injected) -> Iterator[str]:
    """Yield everything of the model that is like something adapted."""
    owners = {starred(each.path) for each in found.adapted}
    yield from (path for path in found.model.modules if starred(path) in owners)
    if any(each.kind == "parameter" for each in found.adapted):
        yield from (name for name in found.model.tensors if starred(name) in owners)


def _size(each: Adapted) -> str:
    first, second = list(each.tensors.values())[:2]
    kernel = "x".join(map(str, first[2:]))
    count = first[0] // each.rank
    mark = f"{count} x " if each.kind == "parameter" and count > 1 else ""
    mark = f"{kernel}: " if kernel else mark
    return f"{mark}{first[1]} -> {second[0]}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    for name, *rest in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(rest, others, strict=True)]
        yield "  ".join([f"{name:<{first}}", *cells])


def _partly(found: Injected) -> list[tuple[str, str]]:
    """Return the layers, and the names that are adapted in these layers alone."""
    every, own = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
    adapted = {each.path for each in found.adapted}
    for path in _peers(found):
        if (layer := layer_of(path)) >= 0:
            every[starred(path)].add(layer)
            if path in adapted:
                own[starred(path)].add(layer)
    names, label = defaultdict[str, list[str]](list), _labels(found)
    for path, layers in own.items():
        if layers < every[path]:
            names[_ranges(layers)].append(label(path))
    return [(layers, ", ".join(dict.fromkeys(ends))) for layers, ends in names.items()]


def _ranges(numbers: Iterable[int]) -> str:
    """Return numbers as ranges: `0-3, 7`."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and spans[-1][-1] == number - 1:
            spans[-1] = [spans[-1][0], number]
        else:
            spans.append([number])
    return ", ".join("-".join(map(str, span)) for span in spans)


def _not_adapted(found: Injected) -> Counter[str]:
    adapted = {each.path for each in found.adapted}
    copies = (name.partition(".modules_to_save.") for name in found.trained)
    adapted |= {begin.removeprefix(TENSOR_PREFIX) for begin, is_copy, _ in copies if is_copy}
    linear = (each.path for each in found.model.of_kind("linear"))
    label = _labels(found)
    return Counter(label(path) for path in linear if path not in adapted)


def _labels(found: Injected) -> Callable[[str], str]:
    """Return a function that gives the last part of a path, or two if one has several meanings."""
    kinds = {starred(each.path) for each in found.model.of_kind("linear")}
    meanings = Counter(kind.rpartition(".")[2] for kind in kinds)

    def label(path: str) -> str:
        parts = starred(path).split(".")
        return ".".join(parts[-2:]) if meanings[parts[-1]] > 1 else parts[-1]

    return label


def as_dict(block: Block, found: Injected | None, notes: Sequence[str]) -> dict[str, Any]:
    """Return the plan as JSON values, with the costs if the base model is known."""
    entries: dict[str, Any] = {
        "method": method_of(block),
        "rank": block["r"],
        "alpha": block["lora_alpha"],
        "scale": _scale(block),
        "notes": list(notes),
    }
    if found is None:
        return entries
    return entries | {
        "asked": found.asked,
        "base_parameters": found.model.parameters,
        "modules": [asdict(each) | {"trained": each.entries} for each in found.adapted],
        "not_adapted": dict(_not_adapted(found)),
        "usual_not_adapted": [each.path for each in found.missed],
        "trained_parameters": found.count,
        "trained_whole": found.beside,
        "trained_whole_names": found.whole,
        "file_bytes": file_bytes(found.file),
        "training_bytes": found.training_bytes,
    }
