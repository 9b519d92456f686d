"""Rank patterns: which triplets of each matrix are kept, as PEFT writes them to disk."""

from __future__ import annotations

SINGULAR_VALUES_SUFFIX = ".lora_E"

RankPattern = dict[str, list[bool]]
"""`{<module path>.lora_E: [kept]}`; True keeps the triplet. The keys hold no adapter name."""


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
