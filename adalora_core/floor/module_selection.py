"""Decide which module paths a configuration means, by PEFT's rules and from names alone."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from adalora_core.floor.matching import Matcher

ALL_LINEAR = "all-linear"
"""The `target_modules` for every linear module but the output head; its case does not matter."""

_QV = ("q_proj", "v_proj")
_BART = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")

DEFAULT_TARGETS: dict[str, tuple[str, ...] | str] = {
    "bart": _BART,
    "bert": ("query", "value"),
    "bloom": ("query_key_value",),
    "deberta": ("in_proj",),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
    "gemma": _QV,
    "gemma2": _QV,
    "gemma3_text": _QV,
    "gemma4": r".*language_model\..*\.(q_proj|v_proj)",
    "gpt2": ("c_attn",),
    "gpt_bigcode": ("c_attn",),
    "gpt_neo": _QV,
    "gpt_neox": ("query_key_value",),
    "gptj": _QV,
    "llama": _QV,
    "llama4": _QV,
    "mt5": ("q", "k", "v", "o", "wi_0", "wi_1", "wo"),
    "nemotron_h": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "opt": _BART,
    "qwen2": _QV,
    "qwen3": _QV,
    "roberta": ("query", "key", "value", "dense"),
    "t5": ("q", "k", "v", "o", "wi", "wo"),
}
"""The modules to adapt where a configuration names none, as in PEFT 0.21.

`{transformers model type: module names, or a regular expression over the whole path}`.
"""

_HEADS_BY_TASK = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
"""Heads that a task adds to a model; they are trained in full, as in PEFT."""


def is_all_linear(targets: object) -> bool:
    """Return whether `target_modules` is the shorthand for every linear module."""
    return isinstance(targets, str) and targets.lower() == ALL_LINEAR


def saved_module_names(modules_to_save: Iterable[str] | None, task_type: str | None) -> list[str]:
    """Return the names of the modules trained in full: the configured ones and the task's heads."""
    names = list(modules_to_save or ())
    return names + [head for head in heads_of(task_type) if head not in names]


def lacks_all_of(names: Collection[str], tensors: Iterable[str]) -> bool:
    """Return whether an adapter with these tensors lacks all modules that it trains in full.

    A model need not have each of them: a task has several names for its head.
    """
    return bool(names) and not any(f"{name}." in tensor for tensor in tensors for name in names)


def heads_of(task_type: object) -> tuple[str, ...]:
    """Return the names of the heads that a task adds to a model."""
    return _HEADS_BY_TASK.get(task_type, ()) if isinstance(task_type, str) else ()


def ends_with(path: str, names: Collection[str]) -> bool:
    """Return whether `path` is one of `names` or ends in one behind a dot.

    The cost does not grow with the number of names if these are a set.

    Example:
        >>> ends_with("layers.0.q_proj", ["q_proj"]), ends_with("layers.0.my_q_proj", ["q_proj"])
        (True, False)
    """
    return any(ending in names for ending in endings(path))


def endings(path: str) -> Iterator[str]:
    """Yield a path and each part of it behind a dot, the longest first."""
    yield path
    while "." in path:
        path = path.partition(".")[2]
        yield path


def outermost(paths: Collection[str]) -> Iterator[str]:
    """Yield the paths of modules that are not inside another one of them.

    Example:
        >>> list(outermost(["layers.0.mlp", "layers.0.mlp.up", "layers.0.mlp_norm"]))
        ['layers.0.mlp', 'layers.0.mlp_norm']
    """
    known = frozenset(paths)
    for path in paths:
        outer = path.rpartition(".")[0]
        while outer and outer not in known:
            outer = outer.rpartition(".")[0]
        if not outer:
            yield path


def settings_of_ranks(ranks: Mapping[str, int], alpha_of: Callable[[int], float]) -> dict[str, Any]:
    r"""Return arguments of PEFT's `LoraConfig` that give every module its rank, and none for 0.

    PEFT takes a name in a list for every module whose path ends in it. Where that means more,
    `target_modules` is one expression.

    Example:
        >>> found = settings_of_ranks({"a.q": 2, "b.a.q": 0}, lambda rank: rank / 2)
        >>> found["r"], found["lora_alpha"], found["target_modules"], found["rank_pattern"]
        (2, 1, 'a\\.q', {'^a\\.q': 2})
    """
    kept = {path: rank for path, rank in sorted(ranks.items()) if rank}
    means_more = any(ends_with(each.partition(".")[2], kept) for each in ranks if each not in kept)
    whole = {rank: int(alpha_of(rank)) for rank in kept.values()}
    alphas = {rank: n if n == alpha_of(rank) else alpha_of(rank) for rank, n in whole.items()}
    # PEFT searches these keys in module names: without the anchor "a.q" would match "b.a.q".
    keys = {path: f"^{re.escape(path)}" for path in kept}
    return {
        "r": max(alphas),
        "lora_alpha": alphas[max(alphas)],
        "target_modules": "|".join(map(re.escape, kept)) if means_more else list(kept),
        "rank_pattern": {keys[path]: rank for path, rank in kept.items()},
        "alpha_pattern": {keys[path]: alphas[rank] for path, rank in kept.items()},
    }


class PathEnds:
    """Names of modules, of which each means every path that ends with it.

    The cost of a path does not grow with the number of names. With `after_dot` a name means whole
    parts of a path alone. In PEFT, names of modules to train whole do not; yet with them PEFT
    adapts no module inside whole parts alone.

    Example:
        >>> names = PathEnds(["classifier"])
        >>> names.end_of("pre_classifier"), names.around("pre_classifier.dense"), names.end_of("a")
        ('classifier', 'classifier', None)
    """

    def __init__(self, names: Iterable[str], *, after_dot: bool = False) -> None:
        self._before = "." if after_dot else ""
        self._reversed: list[str] = []
        """The names that end in no other one, from their last character, in order."""
        for name in sorted(f"{self._before}{each}"[::-1] for each in names):
            if not self._reversed or not name.startswith(self._reversed[-1]):
                self._reversed.append(name)

    def end_of(self, path: str) -> str | None:
        """Return the shortest name that the path of a module ends with, or None."""
        reversed_path = f"{self._before}{path}"[::-1]
        # Between a beginning of the path and the path are only names with that beginning.
        place = bisect_right(self._reversed, reversed_path) - 1
        if place < 0 or not reversed_path.startswith(self._reversed[place]):
            return None
        return self._reversed[place][::-1].removeprefix(self._before)

    def around(self, path: str) -> str | None:
        """Return a name that ends the path of a module, or of one around the module, or None."""
        if not self._reversed:
            return None
        end = path.find(".")
        while end >= 0:
            if (name := self.end_of(path[:end])) is not None:
                return name
            end = path.find(".", end + 1)
        return self.end_of(path)


class ModuleSelection:
    """The fields of a configuration that select modules by their paths.

    Sets of the names are made once: a mixture of experts has tens of thousands. `"all-linear"` and
    null are resolved before, by a caller that has the model. `saved` are names of modules trained
    whole, which need no adapter inside. The matcher has one bound of time for the configuration.
    """

    def __init__(
        self,
        targets: str | Sequence[str],
        exclude: str | Sequence[str] | None = None,
        layers: int | Sequence[int] | None = None,
        layers_pattern: str | Sequence[str] | None = None,
        saved: Sequence[str] = (),
        matcher: Matcher | None = None,
    ) -> None:
        self._targets, self._exclude, self._matcher = targets, exclude, matcher or Matcher()
        names = () if isinstance(targets, str) else targets
        self._names, self._ends = frozenset(names), PathEnds(names, after_dot=True)
        excluded = () if isinstance(exclude, str) else exclude or ()
        self._excluded, self._saved = PathEnds(excluded, after_dot=True), PathEnds(saved)
        self._has_layers = layers not in (None, [])
        self.wanted_layers = tuple([layers] if isinstance(layers, int) else layers or ())
        self._wanted = frozenset(self.wanted_layers)
        patterns = layers_pattern or ()  # an empty text is none
        patterns = [patterns] if isinstance(patterns, str) else patterns
        self._layer_names: dict[str, int] = {}
        self._layer_expressions: list[tuple[int, str]] = []
        for number, each in enumerate(dict.fromkeys(patterns)):
            if re.fullmatch(r"\w+", each):
                self._layer_names[each] = number
            else:
                # Lazy: the first number is the layer, a later one may be an expert.
                expression = rf"(?:^|.*?\.){each}\.(?P<idx>\d+)\."
                self._layer_expressions.append((number, expression))
        if not self._layer_names and not self._layer_expressions:
            self._layer_expressions = [(0, r".*?\.[^.]*\.(?P<idx>\d+)\.")]

    def includes(self, path: str) -> bool:
        """Return whether the module is a target; `excludes` is asked apart."""
        if isinstance(self._targets, str):
            return self._matcher.matches(self._targets, path, "target_modules")
        if path in self._names:
            # A whole path names its layer.
            return True
        if self._ends.end_of(path) is None:
            return False
        return not self._has_layers or self.layer_of(path) in self._wanted

    def holds(self, path: str) -> bool:
        """Return whether the module is a target that `exclude` does not name."""
        return self.includes(path) and not self.is_named_by_exclude(path)

    def layer_of(self, path: str) -> int | None:
        """Return the layer that a path is in, by the first pattern that fits; None without one.

        Raises:
            ExpressionError: an expression takes too long.
        """
        found: dict[int, str] = {}
        parts = path.split(".") if self._layer_names else []
        for name, layer in pairwise(parts[:-1]):
            if name in self._layer_names and layer.isdecimal():
                found.setdefault(self._layer_names[name], layer)
        first = min(found, default=None)
        for number, expression in self._layer_expressions:
            if first is not None and number > first:
                break
            index = self._matcher.find("match", expression, path, "layers_pattern", "idx")
            if index is not None:
                return int(index)
        return None if first is None else int(found[first])

    def excludes(self, path: str) -> bool:
        """Return whether the module gets no adapter even if it is a target."""
        return self.is_named_by_exclude(path) or self._saved.around(path) is not None

    def is_named_by_exclude(self, path: str) -> bool:
        """Return whether `exclude` means the module, whatever the other fields are."""
        if self._exclude and isinstance(self._exclude, str):
            return self._matcher.matches(self._exclude, path, "exclude_modules")
        return self._excluded.end_of(path) is not None
