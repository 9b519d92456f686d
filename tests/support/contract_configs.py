"""Configurations and strategies that several tests of the contract share."""

from __future__ import annotations

from hypothesis import strategies as st

from adalora_core.config.fields.table import BIASES, FIELDS, TASK_TYPES
from adalora_core.config.rules.base import SOUND

__all__ = ["SOUND", "anything", "configurations"]

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2000)
    | st.floats(allow_nan=False, allow_infinity=False, width=16)
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)

_steps = st.integers(-5, 2000) | st.sampled_from([0, 1, 10, 100, 500, 999, 1000, 6000, 13500])
_ranks = st.integers(-1, 70)
_flags = st.booleans()
_modules = (
    st.none() | st.sampled_from(["all-linear", "", r".*q"]) | st.lists(st.sampled_from("qkv"))
)

_LIKELY = {
    "peft_type": st.sampled_from(["ADALORA", "adalora", "LORA", None]),
    "task_type": st.sampled_from([*TASK_TYPES, None, "CAUSAL"]),
    "bias": st.sampled_from([*BIASES, "other"]),
    "init_r": _ranks,
    "target_r": _ranks,
    "tinit": _steps,
    "tfinal": _steps,
    "deltaT": st.integers(-1, 50),
    "total_step": _steps | st.none(),
    "beta1": st.floats(-0.5, 1.5) | st.integers(0, 1),
    "beta2": st.floats(-0.5, 1.5),
    "orth_reg_weight": st.floats(-1, 2),
    "lora_dropout": st.floats(-0.5, 1.5),
    "lora_alpha": st.integers(-2, 64),
    "use_dora": _flags,
    "inference_mode": _flags,
    "loftq_config": st.sampled_from([{}, None, {"loftq_bits": 4}]),
    "init_lora_weights": st.sampled_from([True, False, "loftq", "gaussian", "lora", ""]),
    "target_modules": _modules,
    "layers_to_transform": st.none() | st.integers(0, 3) | st.lists(st.integers(0, 3)),
    "layers_pattern": st.none() | st.sampled_from(["", "layers"]) | st.just([]),
    "alora_invocation_tokens": st.none() | st.lists(st.integers(0, 9), max_size=2),
    "target_parameters": st.none() | st.lists(st.just("mlp"), max_size=2),
    "lora_bias": _flags,
    "rank_pattern": st.none()
    | st.dictionaries(st.just("q.lora_E"), st.lists(_flags, max_size=3) | st.integers(0, 3)),
}


def configurations() -> st.SearchStrategy[dict[str, object]]:
    """Draw configurations near the border between legal and illegal."""
    likely = st.fixed_dictionaries({}, optional=_LIKELY)
    wild = st.dictionaries(st.sampled_from(list(FIELDS)), anything, max_size=2)
    # A legal base under the drawn keys, so that single faults are common too.
    return st.builds(
        lambda base, drawn, extra: {**base, **drawn, **extra},
        st.sampled_from([{}, SOUND]),
        likely,
        st.just({}) | wild,
    )
