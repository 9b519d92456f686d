"""Test the ranks that `adalora plan --budget` proposes against all other ranks."""

from __future__ import annotations

import itertools

import pytest
from header_files import small_llama, write_model

from adalora_core.checker.plan.header import file_bytes
from adalora_core.checker.plan.lora import match_lora
from adalora_core.checker.plan.matching import match
from adalora_core.checker.plan.modules import read_model
from adalora_core.checker.plan.sizing import Limit, for_adalora, for_lora
from adalora_core.config.fields.block import Block
from adalora_core.config.rules.base import SOUND

LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}
AMOUNTS = {
    "bytes": lambda found: file_bytes(found.file()),
    "parameters": lambda found: found.trained,
    "triplets": lambda found: sum(each.rank for each in found.adapted),
}


@pytest.fixture
def model(tmp_path):
    write_model(tmp_path / "model.safetensors", small_llama())
    return read_model(tmp_path)


@pytest.mark.parametrize("unit", AMOUNTS)
@pytest.mark.parametrize("fields", [{}, {"use_dora": True, "rank_pattern": {"v_proj": 3}}])
def test_rank_of_lora_is_the_largest_that_fits(unit, fields, model):
    def amount(rank):
        return AMOUNTS[unit](match_lora(Block(LORA | fields | {"r": rank}), model))

    for rank in (1, 2, 5, 7, 15):
        for limit in (amount(rank), amount(rank + 1) - 1):
            found = for_lora(Block(LORA | fields), Limit(limit, unit), model)
            assert found.values == {"r": rank, "lora_alpha": 2 * rank}
            assert found.amount == found.dearest == amount(rank)
    with pytest.raises(ValueError, match="rank 1 everywhere comes to"):
        for_lora(Block(LORA | fields), Limit(amount(1) - 1, unit), model)
    most = for_lora(Block(LORA | fields), Limit(10**9, unit), model)
    assert (most.values["r"], "no matrix can use a larger rank" in most.note) == (16, True)


def test_rank_of_lora_keeps_the_scale_and_a_pattern_for_all_is_refused(model):
    block = Block(LORA | {"use_rslora": True})
    found = for_lora(block, Limit(16, "triplets"), model)
    assert found.values == {"r": 4, "lora_alpha": 8}
    assert for_lora(block, Limit(64, "triplets"), model).values == {"r": 16, "lora_alpha": 16}
    block = Block(LORA | {"rank_pattern": {"q_proj": 2, "v_proj": 2}})
    with pytest.raises(ValueError, match="rank_pattern gives every module its rank"):
        for_lora(block, Limit(64, "triplets"), model)


def _adalora(model, amount, unit):
    block = Block(SOUND)
    return for_adalora(block, Limit(amount, unit), match(block, model), model)


@pytest.mark.parametrize("unit", AMOUNTS)
def test_ranks_of_adalora_are_the_largest_that_fit(unit, model):
    proposals = [_adalora(model, amount, unit) for amount in range(3000, 9000, 250)]
    by_target = {each.values["target_r"]: each for each in proposals}
    for target, found in by_target.items():
        init, alpha = found.values["init_r"], found.values["lora_alpha"]
        assert init == max(target + 1, -(-target * 3 // 2))
        assert abs(alpha / init - SOUND["lora_alpha"] / SOUND["init_r"]) <= 0.5 / init
        assert _adalora(model, found.amount, unit).values["target_r"] == target
        if target > 1:
            assert _adalora(model, found.amount - 1, unit).values["target_r"] == target - 1
    with pytest.raises(ValueError, match="rank 1 everywhere comes to"):
        _adalora(model, 3, unit)


def test_dearest_choice_of_adalora_is_that_of_all_choices(model):
    sizes = [each.entries_per_rank for each in match(Block(SOUND), model).matrices]
    for amount in (120, 250, 300):
        found = _adalora(model, amount, "parameters")
        triplets, most = found.values["target_r"] * len(sizes), found.values["init_r"]
        assert found.dearest == max(
            sum(rank * size for rank, size in zip(ranks, sizes, strict=True))
            for ranks in itertools.product(range(most + 1), repeat=len(sizes))
            if sum(ranks) == triplets
        )
        assert _adalora(model, found.dearest, "parameters").always_fits == found.values
        safe = _adalora(model, found.dearest - 1, "parameters").always_fits or {}
        assert safe.get("target_r", 0) == found.values["target_r"] - 1
    assert {_adalora(model, n, "parameters").dearest <= n for n in range(232, 264)} == {True, False}
