"""Family ADA5xx, second part: targets that leave nothing that AdaLoRA can adapt."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache

from adalora_core.config.fields import known_modules as known
from adalora_core.config.fields.block import Block
from adalora_core.config.fields.module_names import ARCHITECTURES, TRANSFORMERS
from adalora_core.config.fields.table import LORA, Method
from adalora_core.config.findings import Put, Remedy, Severity
from adalora_core.config.rules.base import SOUND, Findings, SharedRule
from adalora_core.config.rules.patterns import list_in_string
from adalora_core.floor.matching import form_of
from adalora_core.floor.module_selection import (
    PathEnds,
    is_all_linear,
    saved_module_names,
)

_MOST_COMPARED = 8
"""Bound on the unknown names that are compared with all known ones."""

_MOST_TESTS = 1 << 14
"""Bound on the targets times the names in modules_to_save that are read as expressions."""

_LONGEST = 64
"""The longest name of a module at the top of a model."""

_PROBES = ("", "a.", "layers.0.", "a.b.0.c.")
"""Beginnings of paths, to test whether a pattern matches every path."""
_ANY_PATHS = [*(f"{probe}module" for probe in _PROBES), "a", "a.b"]

_FURTHEST = 2
"""The most characters by which a misspelling is longer or shorter."""

_ALTERNATIVES = re.compile(r"\^?\(?(?:\?:)?([\w.\-]+(?:\|[\w.\-]+)*)\)?\$?")


def by_names(block: Block) -> Severity:
    """Return the severity of a finding on the modules of a model that is not known.

    `get_peft_model` of this package asks the model itself, and names what it has.
    """
    return "error" if block.runtime == "peft" else "warning"


def _expression(block: Block) -> str | None:
    """Return `target_modules` if it is a valid regular expression that other rules leave."""
    value = block["target_modules"]
    if not isinstance(value, str) or not value or is_all_linear(value) or list_in_string(value):
        return None
    judgement = block.expressions.judge(value)
    # An expression that varies is also a FutureWarning wherever it is parsed.
    faults = judgement.error, judgement.too_large, judgement.slow, judgement.varies
    return value if faults == (None,) * 4 else None


class ExpressionMatchesNothing(SharedRule):
    code = "ADA508"
    summary = "a target_modules expression can match no module path"
    why = """PEFT matches a string with re.fullmatch against the whole path of every module, as in
    model.layers.0.self_attn.q_proj. An expression without a dot or a wildcard matches only modules
    at the top of a model, and no path has commas or blanks. PEFT raises when the
    adapter is injected. An expression that fits the form of a path and none of the architectures of
    transformers is a warning: the model may be of another kind."""
    bad = SOUND | {"target_modules": "q_proj|v_proj"}
    hint = 'write a list of names, or an expression for whole paths such as ".*(q_proj|v_proj)"'
    unsafe_fix = "alternatives that are names of linear modules become a list of the names"
    inputs = ("target_modules",)

    def check(self, block: Block) -> Findings:
        value = _expression(block)
        if value is None or re.fullmatch(r"[\w.\-]+", value):
            return  # a plain name: reported by rule name-as-regex
        path, form = block.at("target_modules"), form_of(value)
        if form != "path":
            is_known = block.expressions.can_match(value, _LONGEST)
            is_top = not is_known or any(map(re.compile(value).fullmatch, known.TOP))
            if form == "nothing" or not is_top:
                yield self.found(
                    path,
                    f"`target_modules` {value!r} matches no module: it has to match a whole path",
                    severity=by_names(block) if form == "name" else None,
                    remedy=_alternatives(block, value),
                    target=value,
                )
            return
        found = None if block.is_lora else known.fit(value)  # LoRA is used for many other models
        if found is not None and found[0] == "nothing":
            yield self.found(
                path,
                f"`target_modules` {value!r} matches no module of the {ARCHITECTURES} "
                f"architectures of transformers {TRANSFORMERS} that are known by their paths",
                severity="warning",
                hint="compare it with the model: adalora plan FILE --weights MODEL",
                target=value,
            )


def _alternatives(block: Block, value: str) -> Remedy | None:
    found = _ALTERNATIVES.fullmatch(value)
    names = found[1].split("|") if found else []
    if not names or any(known.kind_of(name) != "linear" for name in names):
        return None
    return Remedy("Write a list of names", Put(block.at("target_modules"), names), is_safe=False)


class TargetNotLinear(SharedRule):
    code = "ADA509"
    errors = ("Target module ... is not supported. Currently, only",)
    summary = "a target is an embedding, a normalisation or a block of modules"
    why = """AdaLoRA adapts linear layers and two-dimensional convolutions, LoRA embeddings too. A
    target of another kind is a ValueError when the adapter is injected. The names are those of
    transformers' architectures. Beside a name of linear layers the finding is a warning, since the
    model may lack a module of the other name, and so is a block in LoRA, which adapts torch's
    MultiheadAttention."""
    bad = SOUND | {"target_modules": ["embed_tokens", "self_attn"]}
    hint = "name the linear layers, and train an embedding with modules_to_save"
    inputs = ("target_modules", "exclude_modules", "modules_to_save", "task_type")

    def check(self, block: Block) -> Findings:
        value = block["target_modules"]
        if isinstance(value, list):
            yield from self._of_list(block, value)
        elif (expression := _expression(block)) is not None and not block["exclude_modules"]:
            found = known.fit(expression)
            if found is None or found[0] != "refused":
                return
            if not (block.is_lora and known.kind_of(found[1]) == "embedding"):
                message = (
                    f"`target_modules` {expression!r} matches a block in every architecture: "
                    f"{found[1]!r}, {_refused(block)}"
                )
                hint = "end the expression in names of linear layers, as in .*(q_proj|v_proj)"
                at = block.at("target_modules")
                yield self.found(at, message, severity=by_names(block), hint=hint)

    def _of_list(self, block: Block, names: list[str]) -> Findings:
        if known.LINEAR.issuperset(names):
            return  # the usual case
        left = [(i, name) for i, name in enumerate(names) if known.can_end_a_path(name)]
        is_dropped = _never_adapted(block, names)
        kinds = [(i, name, known.kind_of(name)) for i, name in left if not is_dropped(name)]
        is_left = any(_adapts(block, name) for _, name, _ in kinds)
        for index, name, kind in kinds:
            if not _adapts(block, name):
                article = "an" if kind == "embedding" else "a"
                # LoRA adapts torch's own attention, which other models than transformers' have.
                may_be_attention = block.is_lora and kind == "block"
                yield self.found(
                    block.at("target_modules", index),
                    f"`target_modules` entry {name!r} is {article} {kind} in transformers, "
                    f"{_refused(block)}",
                    severity="warning" if is_left or may_be_attention else by_names(block),
                )


def _adapts(block: Block, name: str) -> bool:
    """Return whether the method adapts modules of a name; those of an unknown one may be any."""
    kind = known.kind_of(name)
    # LoRA adapts convolutions of every dimension too.
    is_more = block.is_lora and (kind == "embedding" or name.rpartition(".")[2].startswith("conv"))
    return kind in {"linear", None} or is_more


def _refused(block: Block) -> str:
    return f"which {'LoRA' if block.is_lora else 'AdaLoRA'} does not adapt"


class UnknownTarget(SharedRule):
    code = "ADA510"
    severity = "warning"
    summary = "no architecture of transformers has a linear layer of a target's name"
    why = """PEFT raises if no target matches a module, and silently ignores single targets that
    match none. A name that resembles one of a linear layer is often misspelt. Other unknown names
    are a remark, unless all targets are unknown: the model may not be of transformers."""
    bad = SOUND | {"target_modules": ["q_porj", "v_proj"]}
    hint = "compare it with the model: adalora plan FILE --weights MODEL"
    unsafe_fix = "a name that resembles one of a linear layer becomes that name"
    inputs = ("target_modules",)

    def check(self, block: Block) -> Findings:
        names = block["target_modules"]
        if not isinstance(names, list) or (block.is_saved and block["rank_pattern"]):
            return  # a trained adapter had such modules
        if known.LINEAR.issuperset(names):
            return  # the usual case
        unknown = [
            (index, name)
            for index, name in enumerate(names)
            if known.kind_of(name) is None
            and known.can_end_a_path(name)
            and name.isprintable()
            and not is_all_linear(name)
            and not name.rpartition(".")[2].isdecimal()
        ]
        for number, (index, name) in enumerate(unknown):
            before, dot, last = name.rpartition(".")
            near = meant_name(last, block.method) if number < _MOST_COMPARED else None
            if near is None and (block.is_saved or block.is_lora):
                continue  # a model may have such modules
            meant, at = f"{before}{dot}{near}", block.at("target_modules", index)
            yield self.found(
                at,
                f"`target_modules` entry {name!r} is not a linear layer of transformers",
                severity="warning" if near or len(unknown) == len(names) else "info",
                hint=f'did you mean "{meant}"?' if near else None,
                remedy=Remedy(f"Write {meant}", Put(at, meant), is_safe=False) if near else None,
                target=name,
            )


@lru_cache(maxsize=1024)  # the files of one project have names in common
def meant_name(last: str, method: Method) -> str | None:
    """Return the name of linear layers that the last part of a path probably stands for."""
    if method == LORA and re.search(r"\d", last):
        return None  # the models of tests and of people's own count their layers
    # A comparison takes microseconds, and the names of a misspelling have an end in common.
    like = [
        other
        for other in known.LINEAR
        if abs(len(other) - len(last)) <= _FURTHEST
        and len(other) > _FURTHEST
        and (other[0] == last[0] or other[-1] == last[-1])
    ]
    if not like:
        return None
    from difflib import get_close_matches  # slow to import, and most names are right

    return next(iter(get_close_matches(last, sorted(like), n=1, cutoff=0.83)), None)


class TargetsOfAnotherModel(SharedRule):
    code = "ADA513"
    errors = ("Target modules ... not found in the base model",)
    summary = "the base model is known by its name, and has none of the targets"
    why = """Names of modules differ between architectures: q_proj is Llama's, query is BERT's, and
    GPT-2 has one layer for all three, c_attn. PEFT raises a ValueError when the adapter is
    injected: `Target modules {'q_proj', 'v_proj'} not found in the base model.` Known are names of
    published models; a folder, or a model of somebody's own, has no finding."""
    bad = SOUND | {"base_model_name_or_path": "gpt2"}
    hint = "name linear layers of the base model"
    unsafe_fix = "the targets become those that PEFT takes for the architecture"
    inputs = ("base_model_name_or_path", "target_modules")

    def check(self, block: Block) -> Findings:
        names, base = block["target_modules"], block["base_model_name_or_path"]
        if not isinstance(names, list) or not isinstance(base, str):
            return
        at = block.at("target_modules")
        for message, usual in lacking(base, names):
            remedy = Remedy("Write usual targets", Put(at, usual), is_safe=False)
            yield self.found(at, message, hint=usual_hint(usual), remedy=remedy)


def lacking(base: str, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield a message and the usual targets if a published model has none of the targets."""
    found = known.linear_layers_of(base)
    if found is None or any(name.rpartition(".")[2] in found[1] for name in names):
        return
    _, linear = found
    shown = "{" + ", ".join(sorted(map(repr, names))) + "}"
    message = (
        f"Target modules {shown} not found in the base model {base!r}: its linear layers are "
        f"{', '.join(linear)}"
    )
    inner = [name for name in linear if name not in known.TOP]
    yield message, known.usual_targets(linear) or inner


def usual_hint(usual: list[str]) -> str:
    """Return the hint that names the usual targets of an architecture."""
    return f"write the names of this architecture, such as {json.dumps(usual)}"


class NoTargetLeft(SharedRule):
    code = "ADA511"
    errors = ("No modules were targeted for adaptation", "All modules were excluded.")
    summary = "every target is excluded, or trained in full by modules_to_save"
    why = """exclude_modules and modules_to_save take precedence over target_modules. The heads of a
    task count as modules_to_save. With no module left to adapt PEFT raises a ValueError when the
    adapter is injected."""
    bad = SOUND | {"exclude_modules": r".*_proj"}
    hint = "exclude fewer modules, or name other targets"
    inputs = ("target_modules", "exclude_modules", "modules_to_save", "task_type")

    def check(self, block: Block) -> Findings:
        value, excluded = block["target_modules"], block["exclude_modules"]
        if not excluded and not saved_module_names(block["modules_to_save"], block["task_type"]):
            return
        names = value if isinstance(value, list) else []
        is_same = isinstance(value, str) and value == excluded and not is_all_linear(value)
        if is_same or all(map(_never_adapted(block, names or [""]), names or [""])):
            marked = "exclude_modules" if excluded else "modules_to_save"
            at = block.at_first(marked, "target_modules")
            message = "no target is left: each is excluded or trained in full"
            yield self.found(at, message, "key", severity=by_names(block))


def _never_adapted(block: Block, names: Collection[str]) -> Callable[[str], bool]:
    """Return the test whether no path that ends in a name is adapted, whatever the model.

    The empty name is the end of every path.
    """
    excluded = block["exclude_modules"]
    saved = saved_module_names(block["modules_to_save"], block["task_type"])
    ends = PathEnds(excluded if isinstance(excluded, list) else (), after_dot=True)
    around = PathEnds(saved, after_dot=True)
    expressions = [excluded] if excluded and isinstance(excluded, str) else []
    if block.runtime == "peft":
        # Only such a name means more than itself as an expression.
        special = [name for name in saved if re.search(r"[^\w.\-]", name)]
        most = _MOST_TESTS // len(names)
        expressions += [rf"(^|.*\.){name}($|\..*)" for name in special[:most]]
    longest = max(map(len, names)) + len(_PROBES[-1])
    tests = [
        re.compile(each).fullmatch
        for each in expressions
        if block.expressions.can_match(each, longest)
    ]

    def covers(name: str) -> bool:
        if name and (ends.end_of(name) is not None or around.around(name) is not None):
            return True
        paths = [probe + name for probe in _PROBES] if name else _ANY_PATHS
        return any(all(map(test, paths)) for test in tests)

    return covers


class NegativeLayer(SharedRule):
    code = "ADA512"
    summary = "layers_to_transform counts from the end"
    why = """PEFT compares the numbers with those in the paths of modules, which are never negative.
    With no other number no module is left to adapt, which is a ValueError. Beside others a negative
    number has no effect."""
    bad = SOUND | {"layers_to_transform": -1}
    hint = "write the numbers of the layers from the front, the first is 0"
    inputs = ("layers_to_transform", "target_modules")

    def check(self, block: Block) -> Findings:
        value, targets = block["layers_to_transform"], block["target_modules"]
        if isinstance(targets, str):
            return  # reported by rule layers-with-regex
        layers = [value] if isinstance(value, int) else value or []
        negative = [(index, layer) for index, layer in enumerate(layers) if layer < 0]
        if not negative:
            return
        severity: Severity = "warning"
        is_whole = any("." in name or name in known.TOP for name in targets or ())
        if len(negative) == len(layers) and not is_whole:
            severity = by_names(block)
        for index, layer in negative:
            path = () if isinstance(value, int) else (index,)
            message = f"`layers_to_transform` {layer} is the number of no layer"
            yield self.found(block.at("layers_to_transform", *path), message, severity=severity)
