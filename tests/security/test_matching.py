"""Matching agrees with `re` where it is quick, and refuses what may take long."""

from __future__ import annotations

import json
import random
import re
import time

import pytest

from adalora_core.floor import matching
from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.matching import Matcher, is_cheap

ENDLESS = "(a|a)*b", "a" * 60

ATOMS = ["a", "b", ".", "[ab]", "[^a]", r"\w", r"\d", r"\b", "^", "$", "(?:a|b)", "(a)", "(b|ab)"]
ATOMS += ["(?=a)", "(?!b)", "(?<=a)", "(?>a|ab)", "(a|b|ab)", "(?i:A)", r"\.", "é"]
REPEATS = ["", "", "", "*", "+", "?", "{2}", "{1,3}", "*?", "+?", "??", "{0,2}?", "*+", "?+"]
METHODS = ("match", "fullmatch", "search")


def _expression(source, depth=2):
    parts = []
    for _ in range(source.randint(1, 4)):
        if depth and source.random() < 0.3:
            inner = _expression(source, depth - 1)
            start = source.choice(["(", "(?:", "(?=", "(?!", "(?>"])
            parts.append(f"{start}{inner})" + source.choice(REPEATS))
        else:
            parts.append(source.choice(ATOMS) + source.choice(REPEATS))
    return source.choice(["", "|"]).join(parts) + source.choice(["", "", "", r"\1", "(?(1)a|b)"])


def _cases(seed, number):
    source = random.Random(seed)  # noqa: S311 - for tests
    while number:
        pattern = _expression(source)
        text = "".join(source.choices("aab.1é\n", k=source.randint(0, 12)))
        try:
            re.compile(pattern)
        except re.error:
            continue
        number -= 1
        yield source.choice(METHODS), pattern, text


def _differences(number):
    refused = 0
    matcher = Matcher()
    for method, pattern, text in _cases(11, number):
        match = getattr(re, method)(pattern, text)
        wanted = None if match is None else match[0]
        try:
            found = matcher.find(method, pattern, text, "field")
        except ExpressionError:
            refused += 1
            continue
        assert found == wanted, (method, pattern, text)
    return refused


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_result_is_that_of_re_where_it_is_quick():
    assert 30 < _differences(600) < 300


# What public configurations select modules by, on a path as long as those of models with images.
PUBLIC = [
    r".*\.(q|k|v|o)_proj",
    r"model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)",
    r".*language_model.*layers.*self_attn.*(q|k|v|o)_proj",
    r"^(?!.*vision).*(?:q_proj|v_proj).*$",
    (
        r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:k_proj"
        r"|v_proj|q_proj|out_proj|fc1|fc2|o_proj|gate_proj|up_proj|down_proj).*?)|(?:\bmodel\.layers\."
        r"[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:k_proj|v_proj)))"
    ),
]


@pytest.mark.parametrize("pattern", PUBLIC)
def test_public_expressions_are_cheap(pattern):
    path = "base_model.model.model.language_model.layers.47.self_attn.q_proj"
    found = Matcher().matches(pattern, path, "target_modules")
    assert found == bool(re.fullmatch(pattern, path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_expression_called_cheap_takes_a_moment_on_the_worst_texts():
    source = random.Random(12)  # noqa: S311 - same
    texts = ["a" * 60, "ab" * 30, "a" * 59 + "b", "." * 60, "a1" * 30]
    longest = 0.0
    for _ in range(20_000):
        pattern = _expression(source, depth=3)
        try:
            cheap = [m for m in METHODS if is_cheap(pattern, 60, anywhere=m == "search")]
        except re.error:
            continue
        for method in cheap:
            try:
                match = getattr(re.compile(pattern), method)
            except re.error:
                break
            for text in texts:
                begin = time.thread_time()
                match(text)
                longest = max(longest, time.thread_time() - begin)
    assert 0 < longest < 2


def test_invalid_expression_has_the_error_of_re_wherever_it_is_found():
    for pattern in ("(", "(" + "a" * 50):
        with pytest.raises(re.error) as wanted:
            re.compile(pattern)
        with pytest.raises(re.error) as found:
            Matcher().find("match", pattern, "a", "field")
        assert (found.value.msg, found.value.pos) == (wanted.value.msg, wanted.value.pos)


def test_group_may_be_named():
    assert Matcher().find("match", r"(x)?\.(?P<idx>\d+)", ".31", "field", "idx") == "31"


def test_message_is_short_and_printable():
    with pytest.raises(ExpressionError) as refused:
        Matcher().find("match", ENDLESS[0] + "\x1b]0;\u202e" * 900, "a" * 9999, "layers_pattern")
    message = str(refused.value)
    assert message.startswith(r"layers_pattern: the regular expression '(a|a)*b\x1b]0;\u202e")
    assert (message.isprintable(), len(message) < 400) == (True, True)


def test_all_slow_matches_together_are_bounded(monkeypatch):
    monkeypatch.setattr(matching, "_MOMENT", 0)
    monkeypatch.setattr(matching, "SECONDS", 0)
    matcher = Matcher()
    with pytest.raises(ExpressionError, match="exceeds the 0 s for all expressions"):
        matcher.find("match", "a*", "aa", "field")


NAME = "a" * 48
"""A module, also the text that expressions are matched against."""
SLOW = {
    "target_modules": f"{NAME}.0.(a|a)*b",
    "exclude_modules": "(a|a)*b",
    "alpha_pattern": {"(a|a)*b": 8},
    "layers_pattern": ["(a|a)*b"],
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("field", SLOW)
def test_adapter_with_a_slow_expression_is_refused_and_the_model_unchanged(
    field, library, request, tmp_path
):
    torch = pytest.importorskip("torch")
    pytest.importorskip("peft")
    from adalora_runs import LIBRARIES, LOADERS

    if library == "attached":
        request.getfixturevalue("installed")
    sound = {"init_r": 4, "target_r": 2, "total_step": 100, "tinit": 1, "tfinal": 1}
    sound |= {"target_modules": ["q_proj"]}

    def base():
        layer = {NAME: torch.nn.Linear(4, 4), "q_proj": torch.nn.Linear(4, 4)}
        return torch.nn.ModuleDict({NAME: torch.nn.ModuleList([torch.nn.ModuleDict(layer)])})

    def make(model, **fields):
        config = LIBRARIES[library].AdaLoraConfig(**sound | fields)
        return LIBRARIES[library].get_peft_model(model, config)

    slow = {field: SLOW[field]} | ({"layers_to_transform": [0]} if "layers" in field else {})
    make(base()).save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | slow))
    if field == "alpha_pattern" and library != "attached":
        # AdaLoRA reads no alpha_pattern, and this package matches none.
        make(base(), **slow)
        return
    attempts = [lambda model: make(model, **slow)]
    attempts.append(lambda model: LOADERS[library].from_pretrained(model, tmp_path))
    for attempt in attempts:
        model = base()
        before = [(key, value.requires_grad) for key, value in model.named_parameters()]
        with pytest.raises(
            ExpressionError, match=f"^{field}: the .*it may take long; repeat less in it"
        ):
            attempt(model)
        assert before == [(key, value.requires_grad) for key, value in model.named_parameters()]
