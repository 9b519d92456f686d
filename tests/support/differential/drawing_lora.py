"""Draw configurations of LoRA, rsLoRA and DoRA one or two steps away from sound ones."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from adalora_core.config.fields.table import LORA_FIELDS
from differential import bases
from differential.cases import Case, Change
from differential.drawing import MAPPING, NUMBERS, PLAIN, TEXT, UNKNOWN, targets

_VALUES: dict[str, tuple[Any, ...]] = PLAIN | {
    "peft_type": ("LORA", "lora", "LORA ", "X", "Lora", *TEXT),
    "r": (*range(-1, 9), *NUMBERS),
    "rank_pattern": (None, {}, {"q": 4}, {".*": 3}, {".*": 0}, {".*": 2.0}, {".*": "2"},
                     {".*": [True]}, {"(": 3}, [], "x", 3, {".*": True}),
    "alpha_pattern": (*MAPPING, {".*": 3}, {".*": "3"}, {".*": 1.5}, {".*": None}, {"(": 3}),
}  # fmt: skip
"""Values to draw from for LoRA, whose other fields are AdaLoRA's."""


def _draw(seed: int) -> Case:
    """Return the configuration of LoRA, rsLoRA or DoRA of a seed."""
    random = Random(f"lora {seed}")  # noqa: S311 - a sample
    base = random.choice(list(bases.BASES))
    kind = bases.BASES[base]
    sound = {
        "peft_type": "LORA",
        "task_type": random.choice([kind.task, None]),
        "target_modules": random.choice(
            [list(kind.targets), [kind.targets[0]], "all-linear", rf".*\.{kind.targets[0]}"]
        ),
        "r": random.randint(1, 6),
        "lora_alpha": random.choice([4, 8, 16]),
        "use_rslora": random.random() < 0.2,
        "use_dora": random.random() < 0.2,
    }
    changes: list[Change] = []
    for _ in range(1 if random.random() < 0.6 else 2):
        name = random.choice([name for name in _VALUES if name in LORA_FIELDS])
        drawn = [(name, random.choice(_VALUES[name]))]
        changes += random.choices([drawn, targets(random, base), [random.choice(UNKNOWN)]],
                                  [60, 37, 3])[0]  # fmt: skip
    kept = {key: value for key, value in changes if key != "inference_mode" or not value}
    sound = {name: value for name, value in sound.items() if value not in (None, False)}
    return Case(base, "training", sound, tuple(kept.items()))


def draws(first: int, count: int) -> Iterator[Case]:
    """Yield the configurations of LoRA of `count` seeds from `first` on."""
    return (_draw(seed) for seed in range(first, first + count))
