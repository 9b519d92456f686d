"""Draw configurations one or two steps away from sound ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from adalora_core.config.fields.table import FIELDS
from differential import bases, outcomes
from differential.cases import ABSENT, Case, Change

NUMBERS = (
    0,
    -1,
    1,
    2,
    1.0,
    2.0,
    0.5,
    2.5,
    "2",
    "x",
    True,
    False,
    None,
    [2],
    {},
    math.nan,
    math.inf,
)
"""Values for every field that holds a number."""

_FLAG = (True, False, 0, 1, None, "true", "false", "", [], {}, 2.0, "yes")
TEXT = (None, "", "x", 1, True, [], {}, ["x"], 0.21)
MAPPING = (None, {}, {"a": 1}, {"rho": 0.5}, [], "x", 1, True, {"": None})

_RANKS = (*range(-1, 13), *NUMBERS, 64)
_STEPS = (*range(-2, 13), *NUMBERS, 30, 2**53, 2**54, 2**60, 2**63, 10**30)
_RATE = (*NUMBERS, 1e-6, 0.1, 0.85, 0.99, 0.9999999, 1 - 1e-12, 1e-300, 1e-40, -0.5, 1.5, "0.5")

PLAIN: dict[str, tuple[Any, ...]] = {
    "task_type": ("CAUSAL_LM", "SEQ_CLS", "causal_lm", "CAUSAL", "FEATURE_EXTRACTION", *TEXT),
    "peft_type": ("ADALORA", "adalora", "LORA", "AdaLora", "ADALORA ", "X", *TEXT),
    "auto_mapping": MAPPING,
    "peft_version": ("0.21.2", "0.18.2.dev0@UNKNOWN", "99.0", *TEXT),
    "base_model_name_or_path": TEXT,
    "revision": TEXT,
    "inference_mode": _FLAG,
    "r": (*NUMBERS, 8, 16),
    "lora_alpha": (*NUMBERS, -8, 16, 64, 1e-8),
    "lora_dropout": (*NUMBERS, 0.05, 0.3, 0.9, 0.999, -0.1, 1.5, "0.1"),
    "fan_in_fan_out": _FLAG,
    "bias": ("none", "all", "lora_only", "None", "lora", "x_only", *TEXT),
    "use_rslora": _FLAG,
    "init_lora_weights": (
        True, False, "", "gaussian", "pissa", "loftq", "eva", "corda", "true", None, 0, 1, [], "x",
        "pissa_niter_4", "olora", "lora_ga", "orthogonal", 2.0, {}, "lora",
    ),
    "alpha_pattern": (*MAPPING, {"q": 3}, {"(": 3}),
    "megatron_config": MAPPING,
    "megatron_core": TEXT,
    "loftq_config": (*MAPPING, {"loftq_bits": 4}),
    "eva_config": (*MAPPING, {"rho": 2.0}, {"tau": 0.99}, {"tau": 5}),
    "corda_config": (*MAPPING, {"cache_file": None}, {"corda_method": "x"}),
    "lora_ga_config": (*MAPPING, {"direction": "x"}),
    "use_dora": _FLAG,
    "velora_config": (*MAPPING, {"num_groups": 4}),
    "alora_invocation_tokens": (None, [], [1], [1, 2], 1, "x", {}, [None], ["a"], True),
    "use_qalora": _FLAG,
    "qalora_group_size": NUMBERS,
    "monteclora_config": (*MAPPING, {"num_samples": 4}, {"num_samples": 0}),
    "layer_replication": (None, [], [[0, 1]], [[0, 2], [1, 2]], [[0, 9]], [0, 1], "x", {}, [[1]]),
    "runtime_config": (*MAPPING, {"ephemeral_gpu_offload": True}),
    "lora_bias": _FLAG,
    "target_parameters": (None, [], ["x"], ["q_proj.weight"], "x", {}, 1),
    "use_bdlora": (*MAPPING, {"nblocks": 2}, True),
    "arrow_config": (*MAPPING, {"top_k": 1}, {"top_k": 0}),
    "kasa_config": (*MAPPING, {"beta": 1e-4}),
    "ensure_weight_tying": _FLAG,
    "target_r": _RANKS,
    "init_r": _RANKS,
    "tinit": _STEPS,
    "tfinal": _STEPS,
    "deltaT": _STEPS,
    "beta1": _RATE,
    "beta2": _RATE,
    "orth_reg_weight": (*NUMBERS, 1e-6, 10, 1e6, 1e30, 1e39, -0.5, "0.1"),
    "total_step": (*_STEPS, "auto", "max", 100, 1000, 12.0, 12.5, "12"),
}  # fmt: skip
"""Values to draw from, for each field that no model decides."""

UNKNOWN: tuple[Change, ...] = (
    ("delta_t", 2), ("lora_r", 8), ("rank", 4), ("total_steps", 20), ("$schema", "x"),
    ("lora_alpah", 8), ("use_lora", True), ("", 1), ("init_R", 4), ("dropout", 0.1),
)  # fmt: skip

SCHEDULES: tuple[dict[str, Any], ...] = (
    {"tfinal": 0},
    {"tfinal": 0, "deltaT": 2},
    {"tfinal": 0, "deltaT": 3},
    {"tfinal": 0, "deltaT": 50},
    {"tfinal": 0, "deltaT": 0},
    {"tfinal": -3, "deltaT": 2},
    {"tinit": -3, "deltaT": 4},
    {"tinit": 11, "tfinal": 0, "total_step": 12, "deltaT": 0},
    {"tinit": 11, "tfinal": 0, "total_step": 12},
    {"tinit": 10, "tfinal": 1, "total_step": 12},
    {"tinit": 0, "tfinal": 0, "total_step": 1},
    {"tinit": -1, "tfinal": 1, "total_step": 1},
    {"tinit": 0, "tfinal": 1, "total_step": 2},
    {"tinit": 5, "tfinal": 7, "total_step": 12},
    {"tinit": 5, "tfinal": 6, "total_step": 12},
    {"deltaT": -2},
    {"deltaT": 50},
    {"init_r": 4, "target_r": 4},
    {"init_r": 4, "target_r": 4, "tfinal": 0, "deltaT": 50},
    {"init_r": 3, "target_r": 5},
    {"init_r": 3, "target_r": 5, "tfinal": 0, "deltaT": 50},
    {"target_r": 0},
    {"target_r": 0, "tfinal": 0, "deltaT": 50},
    {"target_r": -1},
    {"init_r": 0, "target_r": 0},
    {"init_r": 1, "target_r": 1},
    {"init_r": 1, "target_r": 0},
    {"lora_alpha": 0, "tfinal": 0, "deltaT": 50},
    {"lora_alpha": -1},
    {"tinit": 200, "tfinal": 200, "total_step": 1000, "deltaT": 10},
    {"tinit": 200, "tfinal": 0, "total_step": 1000, "deltaT": 10},
    {"tinit": 0, "tfinal": 0, "total_step": 2**60, "deltaT": 1},
    {"tinit": 0, "tfinal": 0, "total_step": 2**60, "deltaT": 2**50},
)  # fmt: skip
"""Settings that several fields decide together."""


def draw(seed: int) -> Case:
    """Return the configuration of a seed."""
    random = Random(seed)  # noqa: S311 - a sample
    base = random.choice(list(bases.BASES))
    if random.random() < 0.25:
        return _adapter(random, base)
    changes: list[Change] = []
    for _ in range(1 if random.random() < 0.6 else 2):
        changes += random.choices(
            [_plain, targets, _schedule, _number, _unknown, _absent], [30, 30, 14, 20, 3, 3]
        )[0](random, base)
    # With inference_mode the contract takes the file for that of a saved adapter.
    kept = {k: v for k, v in changes if k != "inference_mode" or not v}
    return Case(base, "training", _sound(random, base), tuple(kept.items()))


def draws(first: int, count: int) -> Iterator[Case]:
    """Yield the configurations of `count` seeds from `first` on."""
    return (draw(seed) for seed in range(first, first + count))


def _sound(random: Random, base: str) -> dict[str, Any]:
    kind = bases.BASES[base]
    target, tinit, tfinal = random.randint(1, 4), random.randint(0, 3), random.randint(1, 4)
    values = {
        "peft_type": "ADALORA",
        "task_type": random.choice([kind.task, None]),
        "target_modules": random.choice(
            [list(kind.targets), [kind.targets[0]], "all-linear", rf".*\.{kind.targets[0]}"]
        ),
        "init_r": target + random.randint(1, 4),
        "target_r": target,
        "lora_alpha": random.choice([4, 8, 16]),
        "tinit": tinit,
        "tfinal": tfinal,
        "deltaT": random.randint(1, 3),
        "total_step": tinit + tfinal + random.randint(3, 8),
    }
    return {name: value for name, value in values.items() if value is not None}


def _plain(random: Random, base: str) -> list[Change]:
    del base
    name = random.choice(list(PLAIN))
    return [(name, random.choice(PLAIN[name]))]


def _number(random: Random, base: str) -> list[Change]:
    del base
    name = random.choice(
        ["target_r", "init_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight",
         "total_step", "lora_alpha", "lora_dropout"]
    )  # fmt: skip
    return [(name, random.choice(PLAIN[name]))]


def _schedule(random: Random, base: str) -> list[Change]:
    del base
    return list(random.choice(SCHEDULES).items())


def _unknown(random: Random, base: str) -> list[Change]:
    del base
    return [random.choice(UNKNOWN)]


def _absent(random: Random, base: str) -> list[Change]:
    del base
    names = ["peft_type", "init_r", "target_r", "lora_alpha", "tfinal", "total_step", "deltaT"]
    return [(random.choice(names), ABSENT)]


# --- modules --------------------------------------------------------------------------------------


def targets(random: Random, base: str) -> list[Change]:
    return random.choices(
        [_target_modules, _exclude_modules, _modules_to_save, _layers, _tokens, _pattern],
        [40, 15, 15, 15, 10, 5],
    )[0](random, base)


def _named(base: str, *kinds: str) -> list[str]:
    """Return paths of the modules whose class has one of some words in its name."""
    return [path for path, kind in bases.paths(base).items() if any(word in kind for word in kinds)]


def _target_modules(random: Random, base: str) -> list[Change]:
    a, b = bases.BASES[base].targets
    whole = random.choice([path for path in bases.paths(base) if path.endswith(f".{a}")])
    layer = random.choice([path for path in bases.paths(base) if path[-1].isdecimal()])
    norm = random.choice(_named(base, "Norm")).rpartition(".")[2]
    other = random.choice(list(bases.paths(base)))
    leaf = other.rpartition(".")[2]
    head = bases.BASES[base].head
    return [("target_modules", random.choice([
        [a, b], [a], a, b, f"{a}|{b}", f"({a}|{b})", f"({a}|{b})$", f"['{a}']", f'["{a}"]',
        f".*{a}", rf".*\.{a}", rf".*\.({a}|{b})", rf".*\.({a}|{b}", f".*{a}$", f"^.*{b}",
        f"{a},{b}", f"{a} {b}", "all", "auto", "all-linear", "ALL-LINEAR", "all_linear", "", [],
        "*", ["all-linear"],
        [f"{a} "], [f" {a}"], [f"{a},{b}"], [f".*{a}"], [f"*{a}"], ["*"], [".*"],
        [a, "nope"], ["nope"], "nope", [""], [a, ""], [f"{a}."], [f".{a}"], [a, a], None, ABSENT,
        whole, [whole], [whole, b], whole.replace(".", r"\."), layer, [layer], [layer, a],
        norm, [norm], [a, norm], other, [other], leaf, [leaf], rf".*\.{leaf}", [head], [a, head],
        head, [a, 3], [None], 3, True, {a: 1}, [[a]], [a.upper()], f".*{a.upper()}", f"(?i).*{a}",
        ".*", ".+", rf".*\.\d+\..*{a}", "(?P<n>.*)", "[", r"\\", [f"^{a}"], [f"{a}$"], [f"{a}|{b}"],
    ]))]  # fmt: skip


def _exclude_modules(random: Random, base: str) -> list[Change]:
    a, b = bases.BASES[base].targets
    whole = random.choice([path for path in bases.paths(base) if path.endswith(f".{a}")])
    return [("exclude_modules", random.choice([
        None, [], "", [a], [b], [a, b], a, f".*{a}", f".*({a}|{b})", ".*", [".*"], "nope", ["nope"],
        [whole], whole, f"{a},{b}", "[", "*", 3, [3], {}, True, r".*\.0\..*", r".*\.\d+\..*",
        "all-linear", ["all-linear"], [None],
    ]))]  # fmt: skip


def _modules_to_save(random: Random, base: str) -> list[Change]:
    a, b = bases.BASES[base].targets
    kind = bases.BASES[base]
    embedding = [path.rpartition(".")[2] for path in _named(base, "Embedding")] or [kind.head]
    norm = random.choice(_named(base, "Norm")).rpartition(".")[2]
    other = random.choice(list(bases.paths(base)))
    return [("modules_to_save", random.choice([
        None, [], [kind.head], [a], [a, b], ["nope"], "nope", kind.head, "", [""], [embedding[0]],
        [norm], [kind.layers], [other], [other.rpartition(".")[2]], 3, {}, [3], [None], True,
        [kind.head, kind.head], ["*"], [f".*{a}"],
    ]))]  # fmt: skip


def _layers(random: Random, base: str) -> list[Change]:
    name = bases.BASES[base].layers
    changes: list[Change] = []
    if random.random() < 0.85:
        layers = [0, 1, [0], [1], [0, 1], [0, 0], -1, [-1], [99], 99, [0, 99], [], None, True, "0",
                  ["0"], 0.0, [0.0], {}, [None]]  # fmt: skip
        changes.append(("layers_to_transform", random.choice(layers)))
    if random.random() < 0.5:
        patterns = [name, [name], "nope", ["nope", name], "", [], [""], None, "(", name[:2], 3,
                    f"({name})", f"{name}|x", ".*", f"^{name}", {}]  # fmt: skip
        changes.append(("layers_pattern", random.choice(patterns)))
    return [("target_modules", list(bases.BASES[base].targets)), *changes]


def _tokens(random: Random, base: str) -> list[Change]:
    embedding = [path.rpartition(".")[2] for path in _named(base, "Embedding")] or ["wte"]
    changes: list[Change] = [("trainable_token_indices", random.choice([
        None, [0], [0, 3], [3, 3], [-1], [], [999], {}, {embedding[0]: [1]}, {embedding[0]: []},
        {"nope": [1]}, {embedding[0]: [-1]}, {embedding[0]: 1}, 3, "x", [0.0], ["0"], [None], True,
        {"": [1]}, {embedding[0]: [999]}, {embedding[0]: None},
    ]))]  # fmt: skip
    if random.random() < 0.3:
        changes.append(("modules_to_save", [embedding[0]]))
    if random.random() < 0.2:
        changes.append(("ensure_weight_tying", True))
    return changes


def _pattern(random: Random, base: str) -> list[Change]:
    path = random.choice([p for p in bases.paths(base) if p.endswith(bases.BASES[base].targets[0])])
    return [("rank_pattern", random.choice([
        None, {}, {"q": 4}, {f"{path}.lora_E": [True, False]}, [], "x", {path: 3}, {"(": 3}, 3,
    ]))]  # fmt: skip


_Patterns = dict[str, list[bool]]


# --- saved adapters -------------------------------------------------------------------------------


def _adapter(random: Random, base: str) -> Case:
    name = random.choice(list(outcomes.TRAINED))
    sound = outcomes.saved(base, name).values
    changes: list[Change] = []

    def _rank_pattern(random: Random, base: str) -> list[Change]:
        del base
        return _saved_pattern(random, sound["rank_pattern"])

    for _ in range(1 if random.random() < 0.65 else 2):
        changes += random.choices(
            [_plain, targets, _schedule, _number, _unknown, _absent, _rank_pattern],
            [22, 18, 5, 12, 3, 5, 35],
        )[0](random, base)
    # Without inference_mode the contract takes the file for one of a training run.
    kept = {key: value for key, value in changes if key != "inference_mode"}
    return Case(base, "adapter", sound, tuple(kept.items()), name)


def _saved_pattern(random: Random, sound: _Patterns | None) -> list[Change]:
    if sound is None:
        return [("rank_pattern", random.choice([None, {}, ABSENT, [], "x", {"q": 4}]))]
    keys = list(sound)
    key = random.choice(keys)
    path = key.removesuffix(".lora_E")
    edits: list[Callable[[], Any]] = [
        lambda: None,
        dict,
        lambda: ABSENT,
        lambda: sound,
        lambda: {k: v for k, v in sound.items() if k != key},
        lambda: sound | {"nope.lora_E": sound[key]},
        lambda: {f"model.{k}": v for k, v in sound.items()},
        lambda: {f"base_model.model.{k}": v for k, v in sound.items()},
        lambda: {k.replace(".lora_E", ".lora_E.default"): v for k, v in sound.items()},
        lambda: {k.replace(".lora_E", ".lora_E.other"): v for k, v in sound.items()},
        lambda: {k.replace(".lora_E", ".lora_A"): v for k, v in sound.items()},
        lambda: {k.replace(".lora_E", ""): v for k, v in sound.items()},
        lambda: {k: v[:-1] for k, v in sound.items()},
        lambda: {k: [*v, False] for k, v in sound.items()},
        lambda: {k: [True] * len(v) for k, v in sound.items()},
        lambda: {k: [False] * len(v) for k, v in sound.items()},
        lambda: {k: [int(each) for each in v] for k, v in sound.items()},
        lambda: {k: [str(each) for each in v] for k, v in sound.items()},
        lambda: {k: sum(v) for k, v in sound.items()},
        lambda: sound | {key: [not each for each in sound[key]]},
        lambda: sound | {key: sound[key][::-1]},
        lambda: sound | {key: []},
        lambda: sound | {key: None},
        lambda: sound | {key: 2},
        lambda: sound | {path: sound[key]},
        lambda: {path: 3},
        lambda: list(sound),
        lambda: "x",
    ]
    return [("rank_pattern", random.choice(edits)())]


def fields_drawn() -> frozenset[str]:
    """Return the names of the fields that drawn configurations change."""
    others = {"target_modules", "exclude_modules", "modules_to_save", "layers_to_transform"}
    others |= {"layers_pattern", "trainable_token_indices", "rank_pattern"}
    return frozenset(PLAIN) | (others & frozenset(FIELDS))
