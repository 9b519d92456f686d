"""Memory and time of a plan of LoRA are bounded, also for many names and a large model."""

from __future__ import annotations

import json

import pytest

from adalora_core.checker.plan.header import MOST_TENSORS

MEGABYTES = 1 << 20
# Seconds of an idle machine, with a reserve: what is not bounded takes many times as much.
SECONDS, MEMORY = 2 * 6, 1024 * MEGABYTES

PLAN = """
IMPORTS = ("adalora_core.commands.cli.plan",)
def main(argv):
    from adalora_core.commands.cli import main
    return main(["plan", *argv])
"""
MANY = [f"x{i}" for i in range(20_000)]
PATHS = [f"model.layers.{i}.q_proj" for i in range(MOST_TENSORS // 2)]
FIELDS = {
    "names": {
        "target_modules": ["q_proj", *MANY],
        "modules_to_save": MANY,
        "target_parameters": MANY,
        "rank_pattern": {f"^{path}".replace(".", r"\."): 2 for path in PATHS},
    },
    "expressions": {"target_modules": ["q_proj"], "rank_pattern": dict.fromkeys(MANY, 2)},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FIELDS)
def test_plan_of_lora_for_a_large_model_is_bounded(confined, case):
    entry = {"dtype": "F32", "shape": [4, 0], "data_offsets": [0, 0]}
    raw = json.dumps({f"{path}.weight": entry for path in PATHS}).encode()
    config = json.dumps({"peft_type": "LORA", **FIELDS[case]})
    confined.write({"c.json": config, "m.safetensors": len(raw).to_bytes(8, "little") + raw})
    used = confined.measure(PLAN, "c.json", "--weights", "m.safetensors")
    assert used.code == (1 if case == "expressions" else 0), used.shown[:1000]
    assert len(used.shown) < MEGABYTES
    assert used.seconds < SECONDS
    assert used.memory < MEMORY
