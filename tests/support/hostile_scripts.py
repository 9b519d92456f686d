"""Scripts of a few kilobytes that a careless reader would take hours or gigabytes for."""

from __future__ import annotations

from typing import NamedTuple

_CALL = "AdaLoraConfig(init_r=12, target_r=8, tfinal=200, total_step=1000, {})\n"
_KEYS = ",".join(f"'k{i}':{i}" for i in range(2_500))
_NAMES = f"a=[{'1,' * 4_000}]\n"


class HostileScript(NamedTuple):
    """A script, and a phrase that its report must contain."""

    code: str
    phrase: str


def _shared(first: str, level: str, entry: str, use: str) -> str:
    """Return names of which each refers ten times to the one before, and a use of the last."""
    lines = [f"a0={first}"]
    for number in range(1, 19):
        entries = ",".join(entry.format(index, f"a{number - 1}") for index in range(10))
        lines.append(f"a{number}={level.format(entries)}")
    return "\n".join([*lines, use, ""])


def _nested(first: str, level: str, use: str) -> str:
    """Return names of which each contains the one before, and uses that follow a few at a time."""
    names = "".join(f"a{i}={level.format(f'a{i - 1}')}\n" for i in range(1, 3_000))
    uses = "".join(_CALL.format(f"{use}=a{i}") for i in range(1, 3_000, 15))
    return f"a0={first}\n{names}{uses}"


TOO_MANY = "the arguments hold more than 200000 values, shared ones counted every time"
TOO_DEEP = "a value is nested deeper than 64 levels"
DIGITS = "an integer has too many digits"
MARKS = "100 combining marks follow each other"
_WHOLE = 2**61 - 1
"""Its multiples have one hash."""
_HEX = f"0x{'f' * 5_000}"

SHARED = {
    "lists": HostileScript(
        _shared("['q']", "[{}]", "{1}", _CALL.format("target_modules=a18")), TOO_MANY
    ),
    "dicts": HostileScript(
        _shared("{'q':1}", "{{{}}}", "'k{}':{}", _CALL.format("rank_pattern=a18")), TOO_MANY
    ),
    "keywords": HostileScript(
        _shared("{'q':1}", "{{{}}}", "'k{}':{}", "AdaLoraConfig(**a18)"), TOO_MANY
    ),
    "calls": HostileScript(
        _shared("{'q':1}", "dict({})", "k{}={}", "AdaLoraConfig(**a18)"), TOO_MANY
    ),
    "spread": HostileScript(
        f"{_NAMES}b=[{'*a,' * 900}]\nc=[{'*b,' * 900}]\n" + _CALL.format("target_modules=c"),
        TOO_MANY,
    ),
    "of-all-calls": HostileScript(
        _NAMES + _CALL.format("target_modules=a,exclude_modules=a,modules_to_save=a") * 100,
        TOO_MANY,
    ),
    "nested-lists": HostileScript(_nested("[]", "[{}]", "target_modules"), TOO_DEEP),
    "nested-dicts": HostileScript(_nested("{}", "{{1:{}}}", "rank_pattern"), TOO_DEEP),
}  # fmt: skip
"""Scripts whose values are far larger than the code, since they share parts."""

COMPUTED = {
    "round": HostileScript("AdaLoraConfig(total_step=round(5, -10000000000))\n", "total_step"),
    "lists-of-lists": HostileScript(
        _NAMES + _CALL.format(f"target_modules=[{'[*a],' * 12_000}]"), "0 errors"
    ),
    "sums": HostileScript(
        _NAMES + _CALL.format(f"target_modules=[{'a+[],' * 12_000}]"), "0 errors"
    ),
    "ranges": HostileScript(
        _CALL.format(f"target_modules=[{'range(4096),' * 12_000}]"), "0 errors"
    ),
    "texts": HostileScript(
        f"a,b='{'😀' * 4_000}','b'\n" + _CALL.format(f"target_modules=[{'a+b,' * 12_000}]"),
        "0 errors",
    ),
    "changes": HostileScript(
        f"b={{{_KEYS}}}\na={{}}\n" + "a.update(b)\n" * 7_000 + "AdaLoraConfig(**a)\n" * 200,
        "known at run time only",
    ),
}  # fmt: skip
"""Scripts that ask for a large result, or for many results of the largest size."""

SEARCHED = {
    "bindings": HostileScript("x=1\n" * 13_000 + "x()\n" * 12_000 + "AdaLoraConfig()", "ADA201"),
    "blocks": HostileScript(
        f"with {','.join(['a.b()'] * 4_000)}:\n  {'AdaLoraConfig();' * 9_000}\n",
        "more than 200 calls",
    ),
    "attributes": HostileScript(
        f"class c:\n r=1\n{'c.x=1;' * 8_000}\nAdaLoraConfig(init_r=max({'c.r,' * 7_000}))\n",
        "ADA201",
    ),
    "methods": HostileScript(
        "class C:\n" + " def f(self): self.r=8\n" * 4_000 + "c=C()\n"
        + "AdaLoraConfig(init_r=c.r)\n" * 200,
        "ADA201",
    ),
}  # fmt: skip
"""Scripts with many places that bind or change one name, and many that read it."""

TOKENS = {
    "number": HostileScript(f"AdaLoraConfig(total_step={_HEX})\n", DIGITS),
    "number-of-megabytes": HostileScript(
        f"AdaLoraConfig(total_step=0x{'f' * 3_900_000})\n", DIGITS
    ),
    "number-as-key": HostileScript(f"AdaLoraConfig(rank_pattern={{{_HEX}: 1}})\n", DIGITS),
    "number-as-index": HostileScript(f"a=[1]\nAdaLoraConfig(total_step=a[{_HEX}])\n", DIGITS),
    "number-of-an-option": HostileScript(
        f"p=argparse.ArgumentParser()\np.add_argument('--r', default={_HEX})\n"
        "AdaLoraConfig(init_r=p.parse_args().r)\n", DIGITS,
    ),
    "equal-hashes": HostileScript(
        f"AdaLoraConfig(rank_pattern={{{','.join(f'{_WHOLE * i}:1' for i in range(1, 19_000))}}})",
        "ADA201",
    ),
    "marks": HostileScript(
        f"x{chr(0x301) * 39_000}{chr(0x327) * 39_000}=1\nAdaLoraConfig()\n", MARKS
    ),
    "marks-that-are-letters": HostileScript(
        f"x{chr(0x301) * 78_000}{chr(0xFF9E) * 900_000}=1\nAdaLoraConfig()\n", MARKS
    ),
}  # fmt: skip
"""Scripts with single words that are costly to parse or to print."""

_HEAD = "from peft import AdaLoraConfig, get_peft_model\nimport torch\n"
_LOOP = (
    "model = get_peft_model(m, "
    + _CALL.format("target_modules=['q']").replace(")\n", "))\n")
    + "opt = torch.optim.AdamW(model.parameters())\nfor step in range(1000):\n"
    "  loss = model(x).loss\n  loss.backward()\n{}  opt.step()\n"
    "  model.update_and_allocate(step)\n  opt.zero_grad()\n"
)
_TRAINING = _HEAD + _LOOP.format("")
_STOPPED = "too intertwined to follow to its end"
FOLLOWED = {
    "steps": HostileScript(_TRAINING + "  opt.step()\n" * 9_000, _STOPPED),
    "functions": HostileScript(
        _TRAINING
        + "".join(f"def f{i}(): model.update_and_allocate(step)\n" for i in range(4_000)),
        "checked 1 configuration",
    ),
    "bases": HostileScript(
        _TRAINING + "class A0: pass\n"
        + "".join(f"class A{i}(A{i - 1}): pass\n" for i in range(1, 4_000))
        + "a=A3999()\n" + "a.f()\n" * 3_000,
        "checked 1 configuration",
    ),
    "attributes": HostileScript(
        _TRAINING + "class C:\n def f(self):\n"
        + "".join(f"  self.a{i}=b{i}\n" for i in range(9_000)) + "c=C()\n"
        + "for s in c:\n loss=c(x).loss;loss.backward();opt.step()\n" * 300,
        "ADA901",
    ),
    "returns": HostileScript(
        _TRAINING + "def g():\n" + " if a: return m\n" * 8_000
        + "for s in r:\n g()(x).loss.backward();opt.step()\n" * 300,
        _STOPPED,
    ),
    "trainers": HostileScript(
        _TRAINING + "t=Trainer(model=model,args=a)\nt.train()\n" * 4_000, "checked 1 configuration"
    ),
    "guards": HostileScript(
        _HEAD + _LOOP.format("".join(f"  if a{i}: continue\n" for i in range(1_500)))
        + "  opt.step();model.update_and_allocate(step)\n" * 600,
        _STOPPED,
    ),
    "nested-loops": HostileScript(
        _TRAINING + "".join(f"{' ' * i}for s in r:\n" for i in range(90)) + " " * 91
        + "loss.backward();opt.step();" * 3_000 + "\n",
        _STOPPED,
    ),
    "long-body": HostileScript(
        "def f():\n" + " a=1\n" * 24_000 + "AdaLoraConfig()\n", "ADA201"
    ),
}  # fmt: skip
"""Scripts whose loops, calls, classes and conditions multiply for who follows them."""

HOSTILE = {
    f"{family}-{name}": script
    for family, scripts in (
        ("shared", SHARED), ("computed", COMPUTED), ("searched", SEARCHED), ("tokens", TOKENS),
        ("followed", FOLLOWED),
    )
    for name, script in scripts.items()
}  # fmt: skip
