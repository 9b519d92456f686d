"""The nastiest inputs a configuration checker meets, by family, with what is to be said of each."""

from __future__ import annotations

import json
from typing import NamedTuple

from adalora_core.config.rules.base import SOUND


class Nasty(NamedTuple):
    """One input: its text or bytes, its format, and codes of which all must be reported."""

    family: str
    name: str
    content: bytes
    format: str
    codes: frozenset[str]


def _case(family, name, content, codes, format_="json"):
    if isinstance(content, dict):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogatepass")
    return Nasty(family, name, content, format_, frozenset(codes.split()))


def _config(**fields):
    return SOUND | fields


def _with(text):
    """Put a raw JSON value where total_step stands."""
    return json.dumps(SOUND).replace("1000", text)


YAML_SOUND = "".join(f"{key}: {json.dumps(value)}\n" for key, value in SOUND.items())

DEPTH = [
    _case("depth", "json-brackets", "[" * 200_000, "ADA005"),
    _case("depth", "json-objects", '{"a":' * 100_000, "ADA005"),
    _case("depth", "json-65-levels", "[" * 65 + "]" * 65, "ADA005"),
    _case("depth", "yaml-flow", "[" * 5000, "ADA005", "yaml"),
    _case("depth", "yaml-block", "- " * 5000 + "x", "ADA005", "yaml"),
    _case("depth", "yaml-keys", "? " * 3000 + "x", "ADA005", "yaml"),
    _case("depth", "toml-arrays", "a = " + "[" * 3000 + "]" * 3000, "ADA005", "toml"),
    _case("depth", "toml-dots", "a" + ".a" * 3000 + " = 1", "ADA005", "toml"),
]

_LAUGHS = ["a0: &a0 [" + ", ".join("x" * 9) + "]"]
_LAUGHS += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
_MERGES = ["a0: &a0 {x0: 1}"]
_MERGES += [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], x{i}: 1}}" for i in range(1, 21)]
ALIASES = [
    _case("aliases", "billion-laughs", "\n".join(_LAUGHS), "ADA005", "yaml"),
    _case("aliases", "merge-chain", "\n".join(_MERGES), "ADA005", "yaml"),
    _case("aliases", "itself", "x: &x [*x]", "ADA005", "yaml"),
    _case("aliases", "itself-as-key", "&x ? *x : 1", "ADA001", "yaml"),
    _case("aliases", "block", "b: &b {peft_type: ADALORA}\npeft: *b", "ADA201", "yaml"),
    _case("aliases", "deep", "a: &a [[[[[[[[1]]]]]]]]\n" + "".join(
        f"b{i}: &b{i} [[[[[[[[*{'a' if not i else f'b{i - 1}'}]]]]]]]]\n" for i in range(9)
    ), "ADA005", "yaml"),
]  # fmt: skip

DUPLICATES = [
    _case("duplicates", "plain", '{"total_step": 1, "total_step": 2}', "ADA002"),
    _case("duplicates", "escaped", '{"total_step": 1, "total\\u005fstep": 2}', "ADA002"),
    _case("duplicates", "nested", '{"peft_type": "ADALORA", "x": [[{"a":1,"a":2}]]}', "ADA002"),
    _case("duplicates", "yaml", "init_r: 1\ninit_r: 2\n", "ADA002", "yaml"),
    _case("duplicates", "yaml-number-and-text", "tinit: 1\n1: 2\n'1': 3\n", "ADA607", "yaml"),
    _case("duplicates", "toml", "init_r = 1\ninit_r = 2\n", "ADA002", "toml"),
    _case("duplicates", "many", "{" + ",".join(['"a":1'] * 20_000) + "}", "ADA002 ADA006"),
]

NUMBERS = [
    _case("numbers", "nan", _with("NaN"), "ADA003"),
    _case("numbers", "minus-infinity", _with("-Infinity"), "ADA003"),
    _case("numbers", "overflow", _with("1e999"), "ADA003"),
    _case("numbers", "minus-zero", _with("-0"), "ADA201"),
    _case("numbers", "5000-digits", _with("1" * 5000), "ADA005"),
    _case("numbers", "5000-digits-yaml", f"total_step: {'1' * 5000}", "ADA005", "yaml"),
    _case("numbers", "5000-digits-toml", f"total_step = {'1' * 5000}", "ADA005", "toml"),
    _case("numbers", "4000-digits", _with("1" * 4000), "ADA103"),
    _case("numbers", "integral-float", _with("1000.0"), "ADA106"),
    _case("numbers", "true", _with("true"), "ADA102"),
    _case("numbers", "exponent", _with("1E3"), "ADA106"),
    _case("numbers", "beyond-64-bits", _config(total_step=2**63, tinit=2**63), "ADA103"),
    _case("numbers", "huge-float", _config(orth_reg_weight=1e308, init_r=10**400), "ADA103"),
    _case("numbers", "huge-beside-float", _config(tinit=10**400, tfinal=200.5), "ADA103"),
    _case("numbers", "huge-layer", _config(layers_to_transform=[1.5, 10**400]), "ADA102"),
    _case("numbers", "yaml-nan", "tinit: .nan\n", "ADA003", "yaml"),
    _case("numbers", "toml-inf", "beta1 = inf\n", "ADA003", "toml"),
]

ENCODINGS = [
    _case("encodings", "bom", b"\xef\xbb\xbf" + json.dumps(SOUND).encode(), "ADA004"),
    _case("encodings", "utf-16", json.dumps(SOUND).encode("utf-16"), "ADA004"),
    _case("encodings", "utf-32", json.dumps(SOUND).encode("utf-32"), "ADA004"),
    _case("encodings", "latin-1", b'{"peft_type": "ADALORA", "revision": "\xe9"}', "ADA004"),
    _case("encodings", "nul", b'{"peft_type": "ADALORA"}\0', "ADA004"),
    _case("encodings", "nul-escape", '{"peft_type": "ADALORA", "revision": "\\u0000"}', "ADA004"),
    _case("encodings", "surrogate", '{"total_step": 1, "\\ud800": "\\udc00\\ud800"}', "ADA004"),
    _case("encodings", "raw-surrogate", '{"total_step": "\ud800"}', "ADA004"),
    _case("encodings", "separator", '{"total_step": 0, "\u2028": 1}', "ADA104 ADA201"),
    _case("encodings", "cr-only", '{\r"total_step":\r0}', "ADA201"),
    _case("encodings", "crlf-tabs", '{\r\n\t"total_step":\t0}', "ADA201"),
    _case("encodings", "astral", '{"\U0001f600": "\U0001f600", "total_step": 0}', "ADA201"),
    _case("encodings", "binary", bytes(range(256)) * 40, "ADA004"),
]

_INJECTION = "x\n::error::pwn\r\x1b[2J]]>%0A,:\u202etxt.exe"
INJECTION = [
    _case("injection", "key", _config(**{_INJECTION: 1}), "ADA104"),
    _case("injection", "value", _config(bias=_INJECTION), "ADA107"),
    _case("injection", "pattern", _config(target_modules=f"({_INJECTION}"), "ADA501"),
    _case("injection", "rank-pattern", _config(rank_pattern={_INJECTION: 3}), "ADA304"),
    _case("injection", "yaml-key", f"{json.dumps(_INJECTION)}: 1\ntotal_step: 0", "ADA104", "yaml"),
    _case("injection", "long-value", _config(bias="x" * 100_000), "ADA107"),
    _case("injection", "long-key", _config(**{"x" * 100_000: 1}), "ADA104"),
    _case("injection", "braces", _config(**{"{x!r}": "{0}"}), "ADA104"),
]

PATTERNS = [
    _case("patterns", "exponential", _config(target_modules="(a+)+$"), "ADA502"),
    _case("patterns", "repetition", _config(target_modules="a{4294967296}"), "ADA501"),
    _case("patterns", "parens", _config(target_modules="(" * 2000 + ")" * 2000), "ADA005"),
    _case("patterns", "2-mb", _config(target_modules="a" * 2_000_000), "ADA005"),
    _case("patterns", "nested-set", _config(target_modules="[[a]"), "ADA503"),
    _case("patterns", "late-flag", _config(target_modules="a(?i)"), "ADA501"),
    _case("patterns", "property", _config(target_modules=r"\p{L}"), "ADA501"),
    _case("patterns", "possessive", _config(target_modules="a++b"), "ADA503"),
    _case(
        "patterns", "classes", _config(target_modules="(?i)" + "[\0-\U0010ffff]" * 800), "ADA005"
    ),
    _case("patterns", "look-behind", _config(target_modules="(?<=a+)b"), "ADA501"),
]

_SAVED = _config(
    inference_mode=True, loftq_config={}, eva_config=None, use_dora=False, r=8, alpha_pattern={},
    rank_pattern={f"layers.{i}.q_proj.lora_E": [True] * 8 + [False] * 4 for i in range(224)},
)  # fmt: skip
SAVED = [
    _case("saved", "clean", _SAVED, ""),
    _case("saved", "lora-form", _SAVED | {"rank_pattern": {"q_proj": 16}}, "ADA304"),
]

SHAPES = [
    _case("shapes", "list", "[1]", "ADA007"),
    _case("shapes", "string", '"ADALORA"', "ADA007"),
    _case("shapes", "number", "3", "ADA007"),
    _case("shapes", "type-in-list", {"peft_type": ["ADALORA"]}, "ADA102"),
    _case("shapes", "other-method", {"peft_type": "LORA", "target_r": 8}, "ADA105"),
    _case("shapes", "two-blocks", {"a": _config(deltaT=0), "b": _config(r=3)}, "ADA204 ADA303"),
    _case("shapes", "block-in-list", {"runs": [{}, [_config(deltaT=0)]]}, "ADA204"),
    _case("shapes", "large-stranger", json.dumps({"x": ["y" * 99] * 30_000, "p": _config(r=3)}),
          "ADA303"),
    _case("shapes", "too-large", json.dumps({"x": "y" * (5 << 20), "p": SOUND}), "ADA005"),
    _case("shapes", "many-nodes", json.dumps({"x": [0] * 300_000, "p": SOUND}), "ADA005"),
    _case("shapes", "type-by-merge", "b: &b {peft_type: ADALORA}\np:\n  <<: *b\n  deltaT: 0",
          "ADA204", "yaml"),
]  # fmt: skip

_CALL = "AdaLoraConfig(init_r='12', total_step=100)\n"
_ENOUGH = (
    "AdaLoraConfig(init_r=12, target_r=8, target_modules=['q_proj'], tfinal=200, total_step=1000)\n"
)
CODE = [
    _case("code", "ten-megabytes", f"{_CALL}{'# text' * 1_800_000}", "ADA005", "python"),
    _case("code", "many-signs", "a;" * 20_000 + _CALL, "ADA102", "python"),
    _case("code", "nested-calls", "AdaLoraConfig(" * 5_000 + ")" * 5_000, "ADA001", "python"),
    _case("code", "nested-lists", "[" * 5_000 + "]" * 5_000, "ADA001", "python"),
    _case("code", "called-results", "AdaLoraConfig" + "()" * 5_000, "ADA005", "python"),
    _case("code", "attributes", _CALL + "a" + ".a" * 5_000, "ADA005", "python"),
    _case("code", "sum", f"{_CALL}x = {'+'.join('1' * 5_000)}", "ADA005", "python"),
    _case("code", "short-sum", f"r = {'+'.join('1' * 500)}\nAdaLoraConfig(init_r=r)", "ADA201",
          "python"),
    _case("code", "signs", f"{_CALL}x = {'-' * 5_000}1", "ADA005", "python"),
    _case("code", "signs-in-options", "p = argparse.ArgumentParser()\n" + "".join(
        f"p.add_argument('--r', default={'-' * n}1)\n" for n in (900, 901)
    ) + "args = p.parse_args()\nAdaLoraConfig(init_r=args.r)", "ADA201", "python"),
    _case("code", "nots", f"{_CALL}x = {'not ' * 5_000}1", "ADA005", "python"),
    _case("code", "lambdas", f"{_CALL}x = {'lambda: ' * 5_000}1", "ADA005", "python"),
    _case("code", "choices", f"{_CALL}x = {'1 if 1 else ' * 5_000}1", "ADA005", "python"),
    _case("code", "elifs", f"{_CALL}if 1: pass\n" + "elif 1: pass\n" * 5_000, "ADA005",
          "python"),
    _case("code", "power", "n = 9\n" + "n = n * n\n" * 50 + "AdaLoraConfig(init_r=9 ** 9 ** 9, "
          "target_r=[0] * 9 ** 9, total_step='a' * 10 ** 9)", "ADA414", "python"),
    _case("code", "products", "".join(f"n{i + 1} = n{i} * n{i}\n" for i in range(60)) + "n0 = 9\n"
          + _ENOUGH, "", "python"),
    _case("code", "itself", "a = a\nb = [b]\nd = {**d}\n" + _ENOUGH, "", "python"),
    _case("code", "doubled-dicts", "d0 = {'r': 1}\n" + "".join(
        f"d{i + 1} = {{**d{i}, **d{i}}}\n" for i in range(200)
    ) + "AdaLoraConfig(**d200)\nAdaLoraConfig(**d15)", "ADA303", "python"),
    _case("code", "changed-often", "s = {}\n" + "s['r'] = 1\n" * 9_000
          + "AdaLoraConfig(**s)\n" * 90, "ADA201", "python"),
    _case("code", "python-2", f"print 'x'\n{_CALL}", "ADA001", "python"),
    _case("code", "later-python", f"x = t'{{y!z}}' if := 1\n{_CALL}", "ADA001", "python"),
    _case("code", "cut-off", "AdaLoraConfig(init_r=12,", "ADA001", "python"),
    _case("code", "nul", f"{_CALL}\0", "ADA004", "python"),
    _case("code", "utf-16", _CALL.encode("utf-16"), "ADA004", "python"),
    _case("code", "mark", b"\xef\xbb\xbf" + _ENOUGH.encode(), "", "python"),
    _case("code", "latin-1", b"# coding: latin-1\n# \xe9\n" + _ENOUGH.encode(), "", "python"),
    _case("code", "undeclared-latin-1", b"# \xe9\n" + _ENOUGH.encode(), "ADA004", "python"),
    _case("code", "strange-encoding", b"# coding: punycode\n# \xe9\n" + _ENOUGH.encode(), "ADA004",
          "python"),
    _case("code", "form-feeds", f"\f{_ENOUGH}\f", "", "python"),
    _case("code", "lone-returns", f"x = 1\r{_CALL}", "ADA102", "python"),
    _case("code", "wide", f"\u00e9 = '\U0001f600'; {_CALL}", "ADA102", "python"),
    _case("code", "separators", f"x = '\u2028'; {_CALL}", "ADA102", "python"),
    _case("code", "empty", "", "ADA006", "python"),
    _case("code", "many-comments", "# adalora: ignore[ADA102]\n" * 3_000 + _CALL, "ADA414",
          "python"),
    _case("code", "quotes", '"""' + "'" * 40_000 + '\\"' * 9_000
          + '"""\n# adalora: ignore[ADA102]\n' + _CALL, "ADA210", "python"),
]  # fmt: skip


def _cells(*sources, **more):
    cells = [{"cell_type": "code", "source": source} for source in sources]
    return {"cells": cells, "nbformat": 4} | more


NOTEBOOKS = [
    _case("notebooks", "not-json", _CALL, "ADA001", "notebook"),
    _case("notebooks", "cut-off", json.dumps(_cells(_CALL))[:-9], "ADA001", "notebook"),
    _case("notebooks", "empty", "", "ADA009", "notebook"),
    _case("notebooks", "list", "[]", "ADA001", "notebook"),
    _case("notebooks", "no-cells", {"nbformat": 4}, "ADA001", "notebook"),
    _case("notebooks", "cells-of-text", {"cells": "AdaLoraConfig()"}, "ADA001", "notebook"),
    _case("notebooks", "cell-of-text", {"cells": ["AdaLoraConfig()"]}, "ADA001", "notebook"),
    _case("notebooks", "source-of-numbers", _cells([1, 2]), "ADA001", "notebook"),
    _case("notebooks", "source-of-objects", _cells({"a": 1}), "ADA001", "notebook"),
    _case("notebooks", "no-source", {"cells": [{"cell_type": "code"}]}, "ADA006", "notebook"),
    _case(
        "notebooks",
        "format-3",
        {"worksheets": [{"cells": []}], "nbformat": 3},
        "ADA001",
        "notebook",
    ),
    _case("notebooks", "metadata", _cells(_ENOUGH, metadata=[1]), "", "notebook"),
    _case(
        "notebooks",
        "other-language",
        _cells(_CALL, metadata={"language_info": {"name": "R"}}),
        "ADA006",
        "notebook",
    ),
    _case(
        "notebooks",
        "huge-output",
        _cells(_ENOUGH, metadata={"x": [["AAAA" * 9_000] * 30, [0] * 150_000]}),
        "",
        "notebook",
    ),
    _case(
        "notebooks",
        "too-large",
        _cells(_CALL, metadata={"x": "y" * 10_000_000}),
        "ADA005",
        "notebook",
    ),
    _case(
        "notebooks",
        "deep-output",
        '{"cells": [], "x": ' + "[" * 5_000 + "]" * 5_000 + "}",
        "ADA005",
        "notebook",
    ),
    _case(
        "notebooks",
        "magics",
        _cells(
            "%load_ext x\n!pip install [\n?x\ny?\n" + _ENOUGH, "%%bash\n(", "%%time\n" + _ENOUGH
        ),
        "",
        "notebook",
    ),
    _case("notebooks", "broken-cell", _cells("def f(", _ENOUGH), "", "notebook"),
    _case("notebooks", "broken-call", _cells(_ENOUGH, "AdaLoraConfig("), "ADA001", "notebook"),
    _case("notebooks", "nul", _cells("AdaLoraConfig(\0)"), "ADA004", "notebook"),
    _case("notebooks", "half-a-pair", _cells("AdaLoraConfig('\ud800')"), "ADA004", "notebook"),
    _case(
        "notebooks",
        "escapes",
        json.dumps(_cells(["\U0001f600 = 1\n", _CALL])).replace("A", "\\u0041"),
        "ADA001",
        "notebook",
    ),
    _case(
        "notebooks",
        "many-blanks",
        _cells(" " * 60_000 + "\n" + "\t " * 60_000, _CALL, "x" + " " * 60_000 + "?", '"' * 60_001),
        "ADA102",
        "notebook",
    ),
    _case("notebooks", "many-cells", _cells(*["x = 1"] * 3_000, _CALL), "ADA102", "notebook"),
    _case("notebooks", "many-lines", _cells(["x\n"] * 10_000, _CALL), "ADA102", "notebook"),
]

NASTY = [
    *DEPTH, *ALIASES, *DUPLICATES, *NUMBERS, *ENCODINGS, *INJECTION, *PATTERNS,
    *SAVED, *SHAPES, *CODE, *NOTEBOOKS,
]  # fmt: skip
"""Eleven families; file systems are in tests/commands/cli/test_files.py, agreement of schema and
engine in tests/config/test_schema.py."""
