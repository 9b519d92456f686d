"""Write the plan of LoRA, rsLoRA or DoRA as a table for a terminal and as JSON values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from adalora_core.checker.plan.base_layers import layer_of
from adalora_core.checker.plan.costs import share, size_of, starred
from adalora_core.checker.plan.header import file_bytes
from adalora_core.checker.plan.mismatches import shown_value
from adalora_core.floor.escaping import visible
from adalora_core.floor.rank_pattern import LoraScales

if TYPE_CHECKING:
    from adalora_core.checker.plan.lora import LoraMatch
    from adalora_core.checker.plan.lora_layers import Adapted
    from adalora_core.checker.plan.modules import BaseModel
    from adalora_core.config.fields.block import Block

_WIDTH = 79
_NAMES_SHOWN = 8
_KINDS = {"linear": "linear layers", "parameter": "parameters by name"}


def method_of(block: Block) -> str:
    """Return the name of the method that a configuration of LoRA asks for."""
    names = {"use_rslora": "rsLoRA", "use_dora": "DoRA"}
    return " with ".join(name for field, name in names.items() if block[field]) or "LoRA"


def as_text(found: LoraMatch, parameters: int | None) -> str:
    """Return the plan for a terminal; without the base model's parameters what is known then."""
    block = found.block
    lines = _head(block) if parameters is None else [*_head(block), "", *_table(found, parameters)]
    if parameters is None:
        targets = {n: block[n] for n in ("target_modules", "target_parameters") if block[n]}
        lines += ["", *(f"{name}: {shown_value(value)}" for name, value in targets.items())]
        lines.append("modules, parameters and bytes: add --weights with the model's folder or file")
    lines += [f"note: {note}" for note in found.notes]
    return "\n".join(map(_wrapped, lines)) + "\n"


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


def _table(found: LoraMatch, parameters: int) -> list[str]:
    rows = [("module", "count", "size", "rank", "scale", "trained"), *_rows(found)]
    width = _WIDTH - sum(max(len(row[n]) for row in rows) + 2 for n in range(1, len(rows[0])))
    width = max(10, width)
    names = [name if len(name) <= width else f"...{name[3 - width :]}" for name, *_ in rows]
    table = _aligned([(name, *row[1:]) for name, row in zip(names, rows, strict=True)])
    kinds = Counter(each.kind for each in found.adapted).items()
    counted = ", ".join(f"{count} {_KINDS.get(kind, kind + 's')}" for kind, count in kinds)
    lines = [f"adapted: {counted} of a model of {parameters:,} parameters", *table]
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
    lines += ["", f"trained: {found.trained:,} numbers ({share(found.trained, parameters)})"]
    if found.beside:
        lines.append(
            f"{found.beside:,} of them without an adapter (modules_to_save, biases, tokens)"
        )
    lines.append(f"file: {size_of(file_bytes(found.file()))}")
    if found.carried:
        size = size_of(sum(found.model.tensors[name].data_bytes for name in found.carried))
        lines.append(f"{size} of it is not trained: PEFT saves {found.carried[0]} too")
    training = size_of(found.training_bytes)
    lines.append(f"training: {training} for factors, gradients and the two moments of AdamW")
    return lines


def _wrapped(line: str) -> str:
    """Return a line as several ones that fit, as it is if it fits."""
    line = visible(line)
    parts = wrap(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return line if len(line) <= _WIDTH else "\n".join(parts)


def _rows(found: LoraMatch) -> list[tuple[str, ...]]:
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


def _peers(found: LoraMatch) -> Iterator[str]:
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


def _partly(found: LoraMatch) -> list[tuple[str, str]]:
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


def _not_adapted(found: LoraMatch) -> Counter[str]:
    adapted = {each.path for each in found.adapted}
    adapted |= {name.rpartition(".")[0] for name in found.whole if name.endswith(".weight")}
    linear = (each.path for each in found.model.of_kind("matrix", "packed"))
    label = _labels(found)
    return Counter(label(path) for path in linear if path not in adapted)


def _labels(found: LoraMatch) -> Callable[[str], str]:
    """Return a function that gives the last part of a path, or two if one has several meanings."""
    kinds = {starred(each.path) for each in found.model.of_kind("matrix", "packed")}
    meanings = Counter(kind.rpartition(".")[2] for kind in kinds)

    def label(path: str) -> str:
        parts = starred(path).split(".")
        return ".".join(parts[-2:]) if meanings[parts[-1]] > 1 else parts[-1]

    return label


def as_dict(found: LoraMatch, model: BaseModel | None) -> dict[str, Any]:
    """Return the plan as JSON values, with the costs if the base model is known."""
    block = found.block
    entries: dict[str, Any] = {
        "method": method_of(block),
        "rank": block["r"],
        "alpha": block["lora_alpha"],
        "scale": _scale(block),
        "notes": list(found.notes),
    }
    if model is None:
        return entries
    return entries | {
        "base_parameters": model.parameters,
        "modules": [asdict(each) | {"trained": each.entries} for each in found.adapted],
        "not_adapted": dict(_not_adapted(found)),
        "usual_not_adapted": [each.path for each in found.missed],
        "trained_parameters": found.trained,
        "trained_whole": found.beside,
        "file_bytes": file_bytes(found.file()),
        "training_bytes": found.training_bytes,
    }
