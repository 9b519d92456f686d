"""Arguments that a script writes are known; those that only a run computes stay unknown."""

from __future__ import annotations

import ast
import math

import pytest

from adalora_core.checker.documents.python.origins import UNKNOWN
from adalora_core.checker.documents.python.script import Script

HEAD = """\
import argparse, math
import numpy as np
from dataclasses import dataclass, field
from types import SimpleNamespace
from peft import AdaLoraConfig, TaskType
"""
PARSER = "p = argparse.ArgumentParser()\np.add_argument('--r', default=8)"


def _call(code, index=0):
    script = Script(HEAD + code, ast.parse(HEAD + code))
    return script.calls[index]


def _value(code, expression):
    return _call(f"{code}\nAdaLoraConfig(init_r={expression})").values["init_r"]


IMPORT = "from peft import AdaLoraConfig"


@pytest.mark.parametrize(
    ("code", "expression", "value"),
    [
        ("", "12", 12),
        ("", "-1.5", -1.5),
        ("", "'a' 'b'", "ab"),
        ("", "('q', 'v')", ["q", "v"]),
        ("", "{'q', 'v'}", ["q", "v"]),
        ("", "['q', *('k', 'v')]", ["q", "k", "v"]),
        ("", "['q'] + ['v']", ["q", "v"]),
        ("", "sorted(('v', 'q'))", ["q", "v"]),
        ("", "{'q', 'v', 'q'}", ["q", "v"]),
        ("", "set()", []),
        ("", "round(5, -1000000000)", 0),
        ("", "round(1234.5, -2)", 1200.0),
        ("", "list(range(2, 6))", [2, 3, 4, 5]),
        ("", "{'a': [1], **{'b': 2}}", {"a": [1], "b": 2}),
        ("", "TaskType.CAUSAL_LM", "CAUSAL_LM"),
        ("", "TaskType.SEQ_CLS.value", "SEQ_CLS"),
        ("import peft", "peft.TaskType.CAUSAL_LM", "CAUSAL_LM"),
        ("", "3 * 100 // 7", 42),
        ("", "int(0.1 * 1000)", 100),
        ("", "max(1, min(8, 4))", 4),
        ("", "math.ceil(10 / 3)", 4),
        ("", "round(8 * 1.5)", 12),
        ("", "not 1", False),
        ("", "np.inf", math.inf),
        ("R = 8", "R * 2", 16),
        ("R: int = 8", "R", 8),
        ("A, B = 3, 16", "A * B", 48),
        ("(A, B), *C = (3, 16), 1", "A * B", 48),
        ("STEPS = {'n': 1000}", "STEPS['n']", 1000),
        ("RANKS = [4, 8]", "RANKS[-1]", 8),
        ("class CFG:\n    r = 8\n    n = r * 2", "CFG.n", 16),
        ("class CFG:\n    r = 8\ncfg = CFG()", "cfg.r", 8),
        ("class C:\n  def __init__(self):\n    self.r = 8\nc = C()", "c.r", 8),
        ("@dataclass\nclass A:\n    r: int = 8\na = A()", "a.r", 8),
        ("@dataclass\nclass A:\n    r: int = field(default=8)\na = A()", "a.r", 8),
        ("@dataclass\nclass A:\n    t: list = field(default_factory=lambda: ['q'])\na = A()", "a.t",
         ["q"]),
        ("@dataclass\nclass A:\n    r: int = 8\na = A(r=4)", "a.r", 4),
        (("@dataclass\nclass A:\n    r: int = 8\n@dataclass\nclass B(A):\n    r: int = 4\n"
         "b = B()"), "b.r", 4),
        ("class A:\n    t = 8\nclass B(A):\n    r = 4\nb = B()", "b.r", 4),
        ("a = SimpleNamespace(r=8)", "a.r", 8),
        *((f"{PARSER}\n{code}", "args.r", 8) for code in (
            "args = p.parse_args([])",
            "def f(argv=None):\n    pass\nargs = p.parse_args(sys.argv[1:])",
            "print(vars(args))\nargs = p.parse_args(args=None)",
        )),
        ("R = 8\nprint(globals()['R'], vars(x))\ncursor.exec('R = 4')", "R", 8),
        ("def f():\n    R = 8\n    globals()['R'] = 4\n    return AdaLoraConfig(init_r=R)", "8", 8),
        (("p = argparse.ArgumentParser()\np.add_argument('--init-r', '-r', type=int, default=8)\n"
         "args = p.parse_args()"), "args.init_r", 8),
        (("p = argparse.ArgumentParser()\np.add_argument('--x', dest='r', default=8)\n"
         "args, rest = p.parse_known_args()"), "args.r", 8),
        (("p = argparse.ArgumentParser()\np.add_argument('--dora', action='store_true')\n"
         "args = p.parse_args()"), "args.dora", False),
        (("from transformers import HfArgumentParser\n@dataclass\nclass A:\n    r: int = 8\n"
         "@dataclass\nclass B:\n    t: int = 4\np = HfArgumentParser((A, B))\n"
         "a, b = p.parse_args_into_dataclasses()"), "b.t", 4),
    ],
)  # fmt: skip
def test_value_that_the_script_writes_is_known(code, expression, value):
    found = _value(code, expression)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("code", "expression"),
    [
        ("", "unknown"),
        ("", "f'{1}'"),
        ("", "read()"),
        ("", "8 if x else 4"),
        ("", "b'12'"),
        ("", "1j"),
        ("", "[1, x]"),
        ("", "1 / 0"),
        ("", "int('x')"),
        ("", "'a' * 10 ** 9"),
        ("", "range(10 ** 9)"),
        ("R = 8\nR = 4", "R"),
        ("R = 8\nR += 4", "R"),
        ("for R in x: pass", "R"),
        ("if x:\n    R = 8\nelse:\n    R = 4", "R"),
        ("def f(R): pass\ndef g():\n    global R\n    R = 3\nR = 2", "R"),
        ("class C:\n    R = 2\nC.R = 3\nc = C()", "c.R"),
        ("class C:\n  def __init__(self):\n    self.r = 2\n    self.r += 1\nc = C()", "c.r"),
        ("T = ['q']\nT.append('v')", "T"),
        ("T = ['q']\nT[0] = 'v'", "T[0]"),
        ("D = {'n': 1}\nD['n'] = 2", "D['n']"),
        ("D = {'n': 1}\nD.update(x)", "D['n']"),
        ("D = {'n': [1]}\nD['n'].append(2)", "D['n']"),
        ("D = {'n': {'r': 1}}\nD['n']['r'] = 2", "D['n']"),
        ("D = {'n': [1]}\nD.get('n').append(2)", "D['n']"),
        ("D = {'n': 1}\nD.__setitem__('n', 2)", "D['n']"),
        ("", "{**{'n': 1}, **x}['n']"),
        ("", "({'n': 1} | x)['n']"),
        ("", "[*('q', 'v'), 'k'][1]"),
        ("", "sorted([1, 'q'])"),
        ("R = R", "R"),
        ("A = B\nB = A", "A"),
        ("class CFG:\n    r = 8\nCFG.r = 4", "CFG.r"),
        ("class CFG:\n    r = 8\nsetattr(CFG, n, 4)", "CFG.r"),
        ("class C:\n  def __init__(self, r):\n    self.r = r\nc = C(8)", "c.r"),
        ("class C:\n  r = 8\n  def f(self):\n    self.r = 4\nc = C()", "c.r"),
        ("p = argparse.ArgumentParser()\np.add_argument('--r', type=int)\nargs = p.parse_args()",
         "args.r"),
        (("p = argparse.ArgumentParser()\np.add_argument('--r', default=None)\n"
         "args = p.parse_args()"), "args.r"),
        (("p = argparse.ArgumentParser()\np.add_argument('--r', default='8', type=int)\n"
         "args = p.parse_args()"), "args.r"),
        (("p = argparse.ArgumentParser()\np.add_argument('--r', default=8)\n"
         "args = p.parse_args()\nargs.r = 4"), "args.r"),
        *((f"{PARSER}\n{code}", "args.r") for code in (
            "args = p.parse_args(['--r', '4'])", "argv = ['--r', '4']\nargs = p.parse_args(argv)",
            "args = p.parse_args('--r 4'.split())", "args = p.parse_args([], namespace=n)",
            "def read():\n    return p.parse_args(args=['--r', '4'])\nargs = read()",
            "args = p.parse_args()\nvars(args)['r'] = 4",
            "x = p.add_argument('--r', default=8)\nx.default = 4\nargs = p.parse_args([])",
            "args = p.parse_args()\nvars(args).update(r=4)",
            "args = p.parse_args()\nargs.__dict__.update(r=4)",
        )),
        *((f"R = 8\n{code}", "R") for code in (
            "globals()['R'] = 4", "globals().update(R=4)", "vars()['R'] = 4", "exec('R = 4')",
            "def f():\n    globals()['R'] = 4\nf()", "locals()['R'] = 4",
            "exec('R = 4', globals())",
        )),
        ("@dataclass\nclass A:\n    r: int = 8\nclass B(A):\n    r = 4\nb = B()", "b.r"),
        ("class A:\n  def __init__(self):\n    self.r = 8\nclass B(A):\n    r = 4\nb = B()", "b.r"),
        ("class C:\n    r = 8\n    locals()['r'] = 4", "C.r"),
        *((f"class C:\n  def __init__(self):\n    self.r = 8\n    {code}\nc = C()", "c.r")
          for code in ("object.__setattr__(self, 'r', 4)", "setattr(self, n, 4)",
                       "self.__dict__.update(x)")),
        (("p = argparse.ArgumentParser()\np.add_argument('--r', default=8)\n"
         "q = argparse.ArgumentParser()\nq.add_argument('--r', default=4)\n"
         "args = p.parse_args()"), "args.r"),
    ],
)  # fmt: skip
def test_value_that_only_a_run_can_tell_is_unknown(code, expression):
    assert "UNKNOWN" in repr(_value(code, expression))


def test_options_reach_a_function_whose_parameter_has_their_name():
    code = (
        "p = argparse.ArgumentParser()\np.add_argument('--r', default=8)\n"
        "def main(args):\n    AdaLoraConfig(init_r=args.r)\nargs = p.parse_args()\nmain(args)\n"
    )
    assert _call(code).values == {"init_r": 8}
    other = code.replace("main(args):", "main(other):").replace("=args.r", "=other.r")
    assert _call(other).values == {"init_r": 8}  # the only call says what it is
    assert _call(other + "main(3)\n").deferred


CLASS = "@dataclass\nclass C:\n    r: int = 8\n    t: list = field(default_factory=lambda: ['q'])\n"


@pytest.mark.parametrize(
    ("code", "is_known"),
    [
        ("def f(c): AdaLoraConfig(init_r=c.r)\ndef g(d): f(d)\ng(C())", True),
        ("def f(c): AdaLoraConfig(init_r=c.r)\ndef g(d):\n  e = d\n  f(e)\nx = C()\ng(x)", True),
        ("def f(c): AdaLoraConfig(init_r=c.r)\ndef g(d):\n  d.r = 4\n  f(d)\ng(C())", False),
        ("def f(c): AdaLoraConfig(init_r=c.r)\ndef g(d): f(d)\ng(C())\ng(C(r=4))", False),
        ("def f(c): AdaLoraConfig(init_r=c.r)\ndef g(d): f(d)\ng(read())", False),
        ("def f(c):\n  AdaLoraConfig(init_r=c.r)\n  f(c)", False),
        ("def f(c): g(c)\ndef g(c):\n  f(c)\n  AdaLoraConfig(init_r=c.r)", False),
    ],
)
def test_object_is_known_that_functions_pass_on(code, is_known):
    assert _call(CLASS + code).values["init_r"] is (8 if is_known else UNKNOWN)


@pytest.mark.parametrize(
    ("code", "values"),
    [
        ("AdaLoraConfig(**asdict(C()))", {"r": 8, "t": ["q"]}),
        ("c = C(r=4)\nAdaLoraConfig(**asdict(c))", {"r": 4, "t": ["q"]}),
        ("c = C()\nd = asdict(c)\nAdaLoraConfig(**d)", {"r": 8, "t": ["q"]}),
        ("def f(c): AdaLoraConfig(**asdict(c))\nf(C())", {"r": 8, "t": ["q"]}),
        (("@dataclass\nclass D(C):\n    n: ClassVar = 1\n    r: int = 4\n"
         "AdaLoraConfig(**asdict(D()))"), {"r": 4}),
        ("c = C()\nc.r = read()\nAdaLoraConfig(**asdict(c))", {"t": ["q"]}),
        ("@dataclass\nclass D(Other):\n    r: int = 4\nAdaLoraConfig(**asdict(D()))", {}),
        ("AdaLoraConfig(**asdict(c))", {}),
    ],
)  # fmt: skip
def test_fields_of_a_dataclass_are_arguments(code, values):
    call = _call(f"from dataclasses import asdict\n{CLASS}{code}")
    assert (call.values, call.is_open) == (values, not values)


@pytest.mark.parametrize(
    ("code", "values", "deferred", "is_open"),
    [
        ("s = {'init_r': 12, 'r': x}\nAdaLoraConfig(**s)", {"init_r": 12}, {"r"}, False),
        ("s = dict(r=12)\nAdaLoraConfig(beta1=8, **s)", {"r": 12, "beta1": 8}, set(),
         False),
        ("a = {'r': 8}\nb = {'r': 4}\nAdaLoraConfig(**(a | b))", {"r": 4}, set(), False),
        ("a = {'r': 8}\nAdaLoraConfig(**{**a, 'init_r': 3})", {"r": 8, "init_r": 3}, set(), False),
        ("c = {'peft': {'r': 8}}\nAdaLoraConfig(**c['peft'])", {"r": 8}, set(), False),
        ("s = {'r': 8}\ns['init_r'] = n\nAdaLoraConfig(**s)", {"r": 8}, {"init_r"}, False),
        ("s = {'r': 8}\ns.pop('r')\nAdaLoraConfig(**s)", {}, {"r"}, False),
        ("s = {'r': 8}\ns.update(beta1=3)\nAdaLoraConfig(**s)", {"r": 8}, {"beta1"}, False),
        ("s = {'r': 8}\nf.update(s)\nAdaLoraConfig(**s)", {"r": 8}, set(), False),
        ("s = {'r': 8}\ns.update(x)\nAdaLoraConfig(**s)", {}, {"r"}, True),
        ("s = {'r': 8, 't': []}\ns['t'].append(1)\nAdaLoraConfig(**s)", {"r": 8}, {"t"}, False),
        ("AdaLoraConfig(**{'r': 8, **x})", {}, {"r"}, True),
        ("AdaLoraConfig(**{**x, 'r': 8})", {"r": 8}, set(), True),
        ("AdaLoraConfig(**load())", {}, set(), True),
        ("AdaLoraConfig(*x, r=8)", {"r": 8}, set(), True),
        ("c = AdaLoraConfig(r=8)\nc.r = 4", {}, {"r"}, False),
        ("AdaLoraConfig(peft_type='LORA', r=8)", {"r": 8}, set(), False),
    ],
)  # fmt: skip
def test_arguments_come_from_keywords_and_known_dicts(code, values, deferred, is_open):
    call = _call(code)
    known = {name: value for name, value in call.values.items() if value is not UNKNOWN}
    assert (known, call.deferred, call.is_open) == (values, deferred, is_open)


@pytest.mark.parametrize(
    ("code", "doors"),
    [
        ("from peft import AdaLoraConfig as C\nC()", ["peft"]),
        ("import peft\npeft.AdaLoraConfig()", ["peft"]),
        ("import peft as p\np.AdaLoraConfig()", ["peft"]),
        ("import peft.tuners\npeft.tuners.adalora.AdaLoraConfig()", ["peft"]),
        ("from peft import *\nAdaLoraConfig()", ["peft"]),
        ("AdaLoraConfig()", ["peft"]),
        ("from swift.tuners import AdaLoraConfig\nAdaLoraConfig()", ["peft"]),
        ("from adalora_core import AdaLoraConfig\nAdaLoraConfig()", ["own"]),
        ("from adalora_core.peft import AdaLoraConfig\nAdaLoraConfig()", ["bridge"]),
        ("from adalora_core.peft import *\nAdaLoraConfig()", ["bridge"]),
        ("from adalora_core import AdaLoraConfig as C, to_peft_config\nC()", ["bridge"]),
        ("def f():\n    from peft import AdaLoraConfig\n    return AdaLoraConfig()", ["peft"]),
        ("from mindnlp.peft import AdaLoraConfig\nAdaLoraConfig()", []),
        ("from .config import AdaLoraConfig\nAdaLoraConfig()", []),
        ("class AdaLoraConfig: pass\nAdaLoraConfig()", []),
        ("from peft import LoraConfig\nLoraConfig()", []),
        ("x.AdaLoraConfig.from_pretrained()", []),
        ("import pytest\nwith pytest.raises(ValueError):\n    AdaLoraConfig()", []),
        ("def f(self):\n  with self.assertRaises(ValueError), x:\n    AdaLoraConfig()", []),
        ("with open('x') as f:\n    AdaLoraConfig()", ["peft"]),
        ("class pytest: raises = f\nwith pytest.raises(ValueError):\n  AdaLoraConfig()", ["peft"]),
        ("from helpers import raises\nwith raises(ValueError):\n  AdaLoraConfig()", ["peft"]),
        (
            f"try:\n  {IMPORT}\nexcept ImportError:\n  AdaLoraConfig = None\nAdaLoraConfig()",
            ["peft"],
        ),
        (f"{IMPORT}\ntry: f()\nexcept Exception as AdaLoraConfig: pass\nAdaLoraConfig()", ["peft"]),
        (f"class AdaLoraConfig: pass\n{IMPORT}\nAdaLoraConfig()", ["peft"]),
        (f"{IMPORT}\nfrom mine import AdaLoraConfig\nAdaLoraConfig()", []),
        (
            f"try: from adalora_core.{IMPORT[5:]}\nexcept: {IMPORT}\nAdaLoraConfig()",
            ["bridge"],
        ),
        ("import peft\nq = peft\nq.AdaLoraConfig()", ["peft"]),
    ],
)
def test_class_is_known_by_its_import_under_any_name(code, doors):
    assert [call.door for call in Script(code, ast.parse(code)).calls] == doors


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("def f():\n  def g():\n    nonlocal r\n    r = 3\n  r = 2\n  g()\n  {}", UNKNOWN),
        ("def f():\n  r = 2\n  def g():\n    nonlocal r\n    r = 3\n  g()\n  {}", UNKNOWN),
        ("r = 3\ndef f(r=2):\n  {}", UNKNOWN),
        ("r = 3\ndef f(r={}): pass", 3),
        ("r = 3\n[r for r in (1, 2)]\n{}", 3),
        ("[r := 3 for _ in (1, 2)]\n{}", 3),
    ],
)
def test_name_is_read_in_the_scope_that_python_reads_it_in(code, value):
    assert _call(code.format("AdaLoraConfig(init_r=r)")).values["init_r"] is value


@pytest.mark.parametrize(
    ("loaded", "values"),
    [
        ('yaml.safe_load("""\npeft:\n  init_r: 4\n""")', {"init_r": 4}),
        ('json.loads(\'{"peft": {"init_r": 4}}\')', {"init_r": 4}),
        ('yaml.safe_load("peft: [1, 2")', {}),
        ("yaml.safe_load(text)", {}),
        ("other.safe_load('peft: {init_r: 4}')", {}),
    ],
)
def test_text_of_the_script_that_is_loaded_holds_its_values(loaded, values):
    code = f"import json, yaml\nheld = {loaded}\nAdaLoraConfig(**held['peft'])\n"
    assert _call(code).values == values
    changed = code.replace("AdaLora", "held.update(other)\nAdaLora")
    assert _call(changed).values == {}


FIELDS = CLASS.replace(" r:", " init_r:")
NESTED = f"{FIELDS}@dataclass\nclass D:\n    ada: C = field(default_factory=C)\ns.store(node=D)\n"
MAKE = "def make(r=8, t=4):\n    return AdaLoraConfig(init_r=r)\n"


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (f"{MAKE}make()", 8),
        (f"{MAKE}make(t=2)", 8),
        (f"{MAKE}make(16)", 16),
        (f"{MAKE}R = 6\nmake(r=R)", 6),
        (MAKE, UNKNOWN),
        (f"{MAKE}make()\nmake(4)", UNKNOWN),
        (f"{MAKE}make(*given)", UNKNOWN),
        (f"{MAKE}make()\nThread(target=make)", UNKNOWN),
        (f"class A:\n  def make(self): pass\n{MAKE}make()", UNKNOWN),
        (f"import fire\n{MAKE}fire.Fire(make)", 8),
        (f"import typer\n{MAKE}typer.run(make)", 8),
        (f"import typer\n{MAKE}typer.run(make)".replace("=8", "=typer.Option(8)"), 8),
        (f"import typer\n{MAKE}typer.run(make)".replace("=8", "=None"), UNKNOWN),
        (f"@app.command()\n{MAKE}app()", 8),
        (f"@app.command()\n@click.option('--r', default=6)\n{MAKE}".replace("=8", ""), 6),
        ("c = OmegaConf.create({'peft': {'r': 8}})\nAdaLoraConfig(init_r=c.peft.r)", 8),
        ("c = OmegaConf.create({'r': 8})\nc.r = 4\nAdaLoraConfig(init_r=c.r)", UNKNOWN),
        ("c = EasyDict(r=8)\nAdaLoraConfig(init_r=c['r'])", 8),
        ("BIG = True\nAdaLoraConfig(init_r=8 if BIG else 4)", 8),
        (f"{CLASS}s.store(node=C)\n@hydra.main()\ndef f(c): AdaLoraConfig(init_r=c.r)", 8),
        (f"{NESTED}@hydra.main(config_path=None)\ndef f(c): AdaLoraConfig(**c.ada)", 8),
        (f"{NESTED}@hydra.main('conf')\ndef f(c): AdaLoraConfig(init_r=c.ada.init_r)", UNKNOWN),
        (f"{NESTED}def f(c: D): AdaLoraConfig(**vars(c.ada))", 8),
    ],
)
def test_value_that_a_function_a_command_or_a_mapping_is_given(code, value):
    assert _call(code).values["init_r"] is value


@pytest.mark.parametrize(
    ("kind", "count"), [("'ADALORA'", 1), ("PeftType.ADALORA", 1), ("'LORA'", 0), ("given", 0)]
)
def test_configuration_that_peft_makes_of_a_dict(kind, count):
    code = f"{HEAD}peft.get_peft_config({{'peft_type': {kind}, 'init_r': 8}})"
    calls = Script(code, ast.parse(code)).calls
    assert [each.values["init_r"] for each in calls] == [8] * count
