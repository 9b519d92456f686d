"""Rank patterns: which triplets of each matrix are kept, or the rank of each module of a LoRA."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isfinite, sqrt
from typing import Any, NamedTuple

from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.matching import Matcher

TENSOR_PREFIX = "base_model.model."
"""The begin of every name in a file that PEFT writes."""
_FOREIGN_NAMES = {
    "kohya's": re.compile(r".*(\.lora_(down|up)\.weight|\.alpha)"),
    "diffusers'": re.compile(r"(unet|transformer\w*|text_encoder\w*|prior|controlnet)\..*lora.*"),
}
SINGULAR_VALUES_SUFFIX = ".lora_E"

RankPattern = dict[str, list[bool]]
"""`{<module path>.lora_E: [kept]}`; True keeps the triplet. The keys hold no adapter name."""


def foreign_format(names: Iterable[str]) -> str | None:
    """Return whose format a file of tensors with these names has, if it is not PEFT's.

    Example:
        >>> foreign_format(["lora_unet_q.lora_down.weight"]), foreign_format(["q.weight"])
        ("kohya's", None)
    """
    all_ = list(names)
    formats = _FOREIGN_NAMES.items()
    return next((whose for whose, e in formats if any(map(e.fullmatch, all_))), None)


def module_path(key: str, adapter_name: str | None = None) -> str:
    """Return the module path in a pattern key, which may end in an adapter name.

    Example:
        >>> module_path("layers.0.q.lora_E"), module_path("layers.0.q.lora_E.default", "default")
        ('layers.0.q', 'layers.0.q')

    Raises:
        ValueError: the key does not end in `.lora_E` or `.lora_E.<adapter_name>`.
    """
    ends = [SINGULAR_VALUES_SUFFIX]
    if adapter_name is not None:
        # The longer ending first: an adapter may itself be called "lora_E".
        ends.insert(0, f"{SINGULAR_VALUES_SUFFIX}.{adapter_name}")
    for end in ends:
        if key.endswith(end):
            return key[: -len(end)]
    expected = " or ".join(repr(f"<module>{end}") for end in ends)
    raise ValueError(
        f"rank_pattern: a key must be {expected}, got {key!r}; AdaLoRA's pattern is "
        "{module path + '.lora_E': [bool per triplet]}, not LoRA's {module: rank}"
    )


def pattern_positions(pattern: RankPattern | None, adapter_name: str) -> dict[str, list[int]]:
    """Return the kept triplets of each module in a pattern.

    Example:
        >>> pattern_positions({"q.lora_E.default": [True, False, True]}, "default")
        {'q': [0, 2]}
    """
    return {
        module_path(key, adapter_name): [row for row, kept in enumerate(flags) if kept]
        for key, flags in (pattern or {}).items()
    }


class LoraScale(NamedTuple):
    """The rank and the alpha of a module of a LoRA, and the factor on its change."""

    rank: int
    alpha: float
    scale: float


class LoraScales:
    """The scale of each module, as PEFT takes it from the fields of a LoRA configuration.

    Args:
        values: the fields; of a missing one PEFT's default counts.

    Example:
        >>> LoraScales({"r": 8, "lora_alpha": 16, "rank_pattern": {"q": 4}}).of("layers.0.q")
        LoraScale(rank=4, alpha=16.0, scale=4.0)
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values, self._matcher = values, Matcher()
        self._patterns: dict[str, tuple[dict[str, int], list[tuple[int, str]], list[Any]]] = {}

    def of(self, path: str) -> LoraScale:
        """Return the scale of the module at a path.

        Raises:
            ValueError: the configuration gives it no rank or no alpha that PEFT takes.
            ExpressionError: a key of a pattern takes too long to match.
        """
        rank = self._number("rank_pattern", "r", path)
        alpha = self._number("alpha_pattern", "lora_alpha", path)
        if type(rank) is not int or rank < 1:
            raise ValueError(f"gets the rank {rank!r} from the configuration")
        root = sqrt(rank) if self._values.get("use_rslora") else rank
        return LoraScale(rank, float(alpha), alpha / root)

    def _number(self, field: str, usual: str, path: str) -> float:
        try:
            own = self._entry(field, path)
            value = self._values.get(usual, 8) if own is None else own
            is_number = isinstance(value, int | float) and isfinite(value)
        except ExpressionError:
            raise
        except (TypeError, ValueError, OverflowError, re.error):
            is_number = False
        if not is_number:
            raise ValueError(f"gets no {usual} from the configuration, or one that is not a number")
        return value  # type: ignore[no-any-return]

    def _entry(self, field: str, path: str) -> Any:
        """Return the value of the first key of a pattern that means a path, or None."""
        if field not in self._patterns:
            entries = dict(self._values.get(field) or {})
            whole, others = {}, []
            for place, key in enumerate(entries):
                # A key as `settings_of_ranks` writes it means one path and needs no search.
                plain = re.sub(r"\\(.)", r"\1", key[1:])
                if key == f"^{re.escape(plain)}":
                    whole[plain] = place
                else:
                    others.append((place, key))
            self._patterns[field] = whole, others, list(entries.items())
        whole, others, items = self._patterns[field]
        first = whole.get(path, len(items))
        for place, key in others:
            if place > first:
                break
            if self._matcher.find("match", rf"(.*\.)?({key})$", path, field) is not None:
                first = place
        if first == len(items):  # PEFT looks for the path itself last
            first = next((place for place, (key, _) in enumerate(items) if key == path), first)
        return None if first == len(items) else items[first][1]
