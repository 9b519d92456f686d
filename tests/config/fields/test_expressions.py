"""Regular expressions are judged without being matched."""

from __future__ import annotations

import pace
import pytest

from adalora_core.config.fields.expressions import LONGEST, judge


@pytest.mark.parametrize("pattern", ["(a+)+", "(a*)*b", "((a+))+", "(a+b*)+", "(?:a*?)+", "(.*)*"])
def test_repeated_repetition_is_called_slow(pattern):
    assert judge(pattern).slow is not None


@pytest.mark.parametrize(
    "pattern",
    [
        r".*decoder.*(SelfAttention|EncDecAttention).*(q|v)$",
        r"(model\.layers\.\d+\.)+q_proj",
        r"(a+){2}",
        r"(a|b)*",
        r"a+b+c*",
        r"(q|v)_proj",
    ],
)
def test_ordinary_expression_is_not_called_slow(pattern):
    judgement = judge(pattern)
    assert (judgement.slow, judgement.error, judgement.too_large) == (None, None, None)


def test_quadrillion_steps_to_match_take_no_time_to_judge():
    with pace.measured() as spent:
        judge("(a+)+$" * 100)
    assert spent.seconds < 1


def test_pattern_of_exactly_the_longest_length_is_judged():
    assert judge("a" * LONGEST).too_large is None
    assert judge("a" * (LONGEST + 1)).too_large is not None
