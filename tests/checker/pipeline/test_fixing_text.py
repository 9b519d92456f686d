"""Fixes of commas and comments that JSON does not have, and of misspelt names."""

from __future__ import annotations

import json

import pytest
from contract_configs import SOUND
from contract_fixes import fix


def _one(old, new, *, unsafe=False):
    done = fix(old, "json", unsafe=unsafe)
    assert done.document.raw.decode() == new
    return done.report


_BROKEN = """{// its "method", {
 "peft_type": "ADALORA", /* [1,] */ "target_modules": ["q_proj", "a,]//",],
 "init_r": 12, # as in the paper
 "target_r": 8, "tfinal": 200,
 // the run, %s
 "total_step": 1000%s
}
"""


@pytest.mark.parametrize("end", ["", ","])
def test_commas_and_comments_that_json_does_not_have_are_removed_together(end):
    text = _BROKEN % (end, end)
    assert _one(text, text).fixed == ()
    done = fix(text, "json", unsafe=True)
    kept = '"peft_type": "ADALORA", "target_modules": ["q_proj", "a,]//"]'
    rest = '"init_r": 12,\n "target_r": 8, "tfinal": 200,\n "total_step": 1000'
    assert done.document.text == f"{{\n {kept},\n {rest}\n}}\n"
    assert [d.fix.description for d in done.report.fixed] == ["Remove the comments"]


def test_commas_before_brackets_are_removed_safely_and_a_text_with_more_faults_stays():
    sound = json.dumps(SOUND)
    text = sound.replace("]", ",]").replace("}", ",\n}")
    assert [d.code for d in _one(text, sound.replace("}", "\n}")).fixed] == ["ADA001"]
    _one(text.replace("12", "012"), text.replace("12", "012"), unsafe=True)
    _one("[/*,]", "[/*,]", unsafe=True)


def test_misspelt_target_gets_the_name_that_was_meant():
    text = json.dumps(SOUND | {"target_modules": ["a.q_porj", "v_proj"]})
    _one(text, text.replace("q_porj", "q_proj"), unsafe=True)
