"""Test the ranks that `adalora plan --budget` proposes against all other ranks."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
import torch
from header_files import small_llama, write_model
from injections import base_of, drawn
from safetensors.torch import save_file

from adalora_core.checker.plan.header import file_bytes, read_header
from adalora_core.checker.plan.modules import RefusedError
from adalora_core.checker.plan.sizing import Limit, for_adalora, for_lora
from adalora_core.commands.injection.base_model import read_base
from adalora_core.commands.injection.injecting import inject
from adalora_core.config.fields.block import Block
from adalora_core.config.rules.base import SOUND

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
AMOUNTS = {
    "bytes": lambda found: file_bytes(found.file),
    "parameters": lambda found: found.count,
    "triplets": lambda found: sum(each.rank for each in found.adapted),
}


@pytest.fixture
def base(tmp_path):
    write_model(tmp_path / "model.safetensors", small_llama())
    return read_base(tmp_path)


def _proposal(base, fields, amount, unit):
    block = Block(fields)
    if block.is_lora:
        propose, ranks = for_lora, lambda rank: {"r": rank}
    else:
        propose, ranks = for_adalora, lambda rank: {"init_r": rank, "target_r": 1}

    def injected(rank):
        return inject(replace(block, values=fields | ranks(rank)), base)

    return propose(block, Limit(amount, unit), inject(block, base), injected)


@pytest.mark.parametrize("unit", AMOUNTS)
@pytest.mark.parametrize("fields", [{}, {"use_dora": True, "rank_pattern": {"v_proj": 3}}])
def test_rank_of_lora_is_the_largest_that_fits(unit, fields, base):
    def amount(rank):
        return AMOUNTS[unit](inject(Block(LORA | fields | {"r": rank}), base))

    for rank in (1, 2, 5, 7, 15):
        for limit in (amount(rank), amount(rank + 1) - 1):
            found = _proposal(base, LORA | fields, limit, unit)
            assert found.values == {"r": rank, "lora_alpha": 2 * rank}
            assert found.amount == found.dearest == amount(rank)
    with pytest.raises(ValueError, match="rank 1 everywhere comes to"):
        _proposal(base, LORA | fields, amount(1) - 1, unit)
    most = _proposal(base, LORA | fields, 10**9, unit)
    assert (most.values["r"], "no matrix can use a larger rank" in most.note) == (16, True)


def test_rank_of_lora_keeps_the_scale_and_a_pattern_for_all_is_refused(base):
    fields = LORA | {"use_rslora": True}
    assert _proposal(base, fields, 16, "triplets").values == {"r": 4, "lora_alpha": 8}
    assert _proposal(base, fields, 64, "triplets").values == {"r": 16, "lora_alpha": 16}
    fields = LORA | {"rank_pattern": {"q_proj": 2, "v_proj": 2}}
    with pytest.raises(ValueError, match="rank_pattern gives every module its rank"):
        _proposal(base, fields, 64, "triplets")


def test_rank_that_peft_refuses_is_not_proposed(base):
    fields = LORA | {"init_lora_weights": "orthogonal"}
    assert _proposal(base, fields, 4 * 7, "triplets").values["r"] == 6


@pytest.mark.parametrize("unit", AMOUNTS)
def test_ranks_of_adalora_are_the_largest_that_fit(unit, base):
    proposals = [_proposal(base, SOUND, amount, unit) for amount in range(3000, 9000, 500)]
    by_target = {each.values["target_r"]: each for each in proposals}
    for target, found in by_target.items():
        init, alpha = found.values["init_r"], found.values["lora_alpha"]
        assert init == max(target + 1, -(-target * 3 // 2))
        assert abs(alpha / init - SOUND["lora_alpha"] / SOUND["init_r"]) <= 0.5 / init
        assert _proposal(base, SOUND, found.amount, unit).values["target_r"] == target
        if target > 1:
            below = _proposal(base, SOUND, found.amount - 1, unit)
            assert below.values["target_r"] == target - 1
    with pytest.raises(ValueError, match="rank 1 everywhere comes to"):
        _proposal(base, SOUND, 3, unit)


def test_dearest_choice_of_adalora_is_that_of_all_choices(base):
    sizes = [each.entries_per_rank for each in inject(Block(SOUND), base).matrices]
    for amount in (120, 250, 300):
        found = _proposal(base, SOUND, amount, "parameters")
        triplets, most = found.values["target_r"] * len(sizes), found.values["init_r"]
        assert found.dearest == max(
            sum(rank * size for rank, size in zip(ranks, sizes, strict=True))
            for ranks in itertools.product(range(most + 1), repeat=len(sizes))
            if sum(ranks) == triplets
        )
        assert _proposal(base, SOUND, found.dearest, "parameters").always_fits == found.values
        safe = _proposal(base, SOUND, found.dearest - 1, "parameters").always_fits or {}
        assert safe.get("target_r", 0) == found.values["target_r"] - 1


@pytest.mark.nightly
def test_no_larger_rank_of_100_drawn_budgets_fits():
    rng = random.Random(8)  # noqa: S311 - budgets
    for _ in range(100):
        _judge_a_drawn_budget(rng)


def _judge_a_drawn_budget(rng):
    model, fields = drawn(rng)
    name = "init_r" if "init_r" in fields else "r"
    fields = {"peft_type": "LORA" if name == "r" else "ADALORA", **fields}
    unit, limit = rng.choice(["bytes", "parameters"]), rng.choice([2000, 8000, 20_000])

    def amount(rank):
        try:
            return AMOUNTS[unit](inject(Block(fields | {name: rank}), base_of(model)))
        except RefusedError:
            return None

    if amount(fields[name]) is None or amount(2 * fields[name]) is None:
        return
    try:
        found = _proposal(base_of(model), fields, limit, unit)
    except ValueError as error:
        assert str(error).startswith("--budget: ")  # noqa: PT017 - nothing fits, or nothing changes
        return
    rank = found.values["r" if name == "r" else "target_r"]
    assert found.amount == amount(rank) <= limit, (model, fields)
    larger = [amount(rank + more) for more in (1, 2)]
    is_most = "no matrix can use" in found.note
    assert is_most or all(x is None or x > limit for x in larger), (model, fields)


def test_bytes_of_a_file_are_those_that_are_written_however_long_its_header_is(tmp_path):
    for length in range(1, 17):
        path = tmp_path / f"{length}.safetensors"
        save_file({"n" * length: torch.zeros(2)}, path, {"format": "pt"})
        assert file_bytes(read_header(path)) == path.stat().st_size
