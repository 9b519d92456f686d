"""Bounded matching agrees with `re`, and leaves neither processes nor warnings behind."""

from __future__ import annotations

import json
import os
import random
import re
import sys
import threading
import time

import pytest
from programs import output_of_python

from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.expressions import process
from adalora_core.floor.expressions.matching import Matcher, is_cheap

ENDLESS = "(a|a)*b", "a" * 60
APART = r"(?:\w+\.)+q"
"""An expression that is not cheap by its form, and quick all the same."""

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
    apart = 0
    matcher = Matcher(1000)
    for method, pattern, text in _cases(11, number):
        match = getattr(re, method)(pattern, text)
        wanted = None if match is None else match[0]
        found = matcher.find(method, pattern, text, "field")
        assert found == wanted, (method, pattern, text)
        # Also those that would be matched in this process.
        assert matcher._find_apart(method, pattern, text, "field", 0) == wanted
        apart += not is_cheap(pattern, len(text), anywhere=method == "search")
    return apart


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_result_is_that_of_re_in_this_process_and_apart():
    assert 50 < _differences(600) < 550


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_result_is_that_of_re_for_many_expressions():
    assert _differences(5_000) > 250


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
    assert 0 < longest < 0.5


@pytest.mark.parametrize("text", ["\ud800", "é\0\n\u2028", "", "a" * 200_000])
def test_text_reaches_the_other_process_unchanged(text):
    assert Matcher()._find_apart("match", "(?s).*", text, "field", 0) == text


def test_invalid_expression_has_the_error_of_re_wherever_it_is_found():
    for pattern in ("(", "(" + "a" * 5000):
        with pytest.raises(re.error) as wanted:
            re.compile(pattern)
        with pytest.raises(re.error) as found:
            Matcher().find("match", pattern, "a", "field")
        assert (found.value.msg, found.value.pos) == (wanted.value.msg, wanted.value.pos)


def test_group_may_be_named():
    assert Matcher().find("match", r"(x)?\.(?P<idx>\d+)", ".31", "field", "idx") == "31"


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [("(?:" * 2000 + ")" * 2000, "is nested too deep"), (r"(?i)" + r"[\0-\uffff]" * 580, "takes")],
)
def test_expression_that_re_cannot_compile_is_refused(pattern, reason):
    with pytest.raises(ExpressionError, match=f"^field: .*: it {reason}"):
        Matcher().find("match", pattern, "a", "field")


def test_message_is_short_and_printable():
    with pytest.raises(ExpressionError) as refused:
        Matcher(0.1).find("match", ENDLESS[0] + "\x1b]0;\u202e" * 900, "a" * 9999, "layers_pattern")
    message = str(refused.value)
    assert message.startswith(r"layers_pattern: the regular expression '(a|a)*b\x1b]0;\u202e")
    assert (message.isprintable(), len(message) < 400) == (True, True)


def test_next_expression_is_matched_after_one_that_took_too_long():
    for _ in range(3):
        with pytest.raises(ExpressionError, match=r"takes more than 0\.1 s"):
            Matcher(0.1).find("match", *ENDLESS, "field")
        assert Matcher().find("match", APART, "a.q", "field") == "a.q"


def test_process_that_ended_meanwhile_is_replaced():
    for _ in range(2):
        assert Matcher().find("match", APART, "a.q", "field") == "a.q"
        process._child._process.kill()
        process._child._process.wait()


def test_threads_share_the_process():
    wrong = []

    def match(name):
        for index in range(50):
            text = f"{name}{index}.q"
            if Matcher().find("match", APART, text, "field") != text:
                wrong.append(text)

    threads = [threading.Thread(target=match, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


FORKED = """
import os
from adalora_core.floor.expressions import process
from adalora_core.floor.expressions.matching import Matcher
find = lambda text: Matcher().find("match", r"(?:\\w+\\.)+q", text, "field")
assert find("a.q") == "a.q"
before = process._child._process.pid
child = os.fork()
for index in range(100):
    assert find(f"{child}.{index}.q") == f"{child}.{index}.q"
if not child:
    assert process._child._process.pid != before
    os._exit(0)
assert process._child._process.pid == before
assert os.waitpid(child, 0)[1] == 0
print(before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="would show that a forked process has its own")
def test_forked_process_has_its_own_and_none_survives():
    pid = int(output_of_python("-X", "dev", "-W", "error", "-c", FORKED))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


LEFT = """
import gc, os, sys
from adalora_core.floor.errors import ExpressionError
from adalora_core.floor.expressions.matching import Matcher
for _ in range(5):
    try:
        Matcher(0.1).find("match", "(a|a)*b", "a" * 60, "field")
    except ExpressionError as error:
        assert "takes more than 0.1 s" in str(error)
gc.collect()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    loaded = sorted({"torch", "pydantic", "numpy"} & set(sys.modules))
    print(loaded, len(os.listdir("/proc/self/fd")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="would show that no file is open")
def test_refusals_leave_no_process_no_open_file_and_no_warning():
    # Standard streams and the listed folder itself.
    assert output_of_python("-X", "dev", "-W", "error", "-c", LEFT) == "[] 4\n"


def test_cheap_expressions_start_no_process_and_load_no_module():
    program = (
        "import sys; from adalora_core.floor.expressions.matching import Matcher\n"
        "assert Matcher().find('fullmatch', r'.*\\.(q|v)_proj', 'a.q_proj', 'f') == 'a.q_proj'\n"
        "print({'subprocess', 'json', 'signal'} & set(sys.modules))"
    )
    assert output_of_python("-c", program) == "set()\n"


@pytest.mark.parametrize("executable", ["", "/nonexistent/python", sys.executable + "-none"])
def test_expression_is_refused_where_no_process_can_start(monkeypatch, executable):
    process._end()
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.raises(
        ExpressionError, match=r"it needs a (process|Python interpreter) of its own"
    ):
        Matcher().find("match", APART, "a.q", "field")
    assert Matcher().find("match", "a+", "aa", "field") == "aa"


@pytest.mark.skipif(os.name == "nt", reason="would show that another program is not mistaken")
def test_program_that_is_not_python_is_not_mistaken_for_it(monkeypatch):
    process._end()
    monkeypatch.setattr(sys, "executable", "/bin/echo")
    with pytest.raises(ExpressionError, match="which ended at its start"):
        Matcher().find("match", APART, "a.q", "field")


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
        with pytest.raises(ExpressionError, match=f"^{field}: the .*takes more than 1 s"):
            attempt(model)
        assert before == [(key, value.requires_grad) for key, value in model.named_parameters()]
