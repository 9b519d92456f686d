"""Make hostile inputs by mutating valid structures, one generator for each format."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import re
import sys
from typing import TYPE_CHECKING, Any

import yaml

from adalora_core.config.rules.base import SOUND
from adalora_core.floor.limits import MOST_DIGITS

if TYPE_CHECKING:
    from collections.abc import Callable

Files = dict[str, bytes]
"""The files of one input by their names."""

SAVED = SOUND | {
    "inference_mode": True,
    "rank_pattern": {"0.lora_E": [True, True, True, False]},
    "layers_pattern": ["layers"],
    "loftq_config": {},
}
POLICY = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["target_r"],
    "properties": {"target_r": {"enum": [4, 8]}, "init_r": {"$ref": "#/$defs/rank"}},
    "$defs": {"rank": {"type": "integer", "minimum": 1, "maximum": 64}},
    "allOf": [{"if": {"properties": {"bias": {"const": "all"}}}, "then": {"minProperties": 3}}],
    "anyOf": [{"not": {"required": ["x"]}}, {"patternProperties": {"^l": {"type": "string"}}}],
}
PROJECT = {
    "project": {"name": "a", "dependencies": ["torch>=2", "peft"]},
    "tool": {
        "adalora": {
            "exclude": ["old/*.json"],
            "ignore": ["ADA207"],
            "per-file-ignores": {"a.json": ["ADA204"]},
            "limit": ["nodes=1000"],
            "strict-keys": True,
        },
        "other": [{"a": 1}, {"b": [1.5, "x"]}],
    },
}
HEADER = {
    "__metadata__": {"format": "pt"},
    "model.layers.0.q_proj.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
    "model.layers.0.v_proj.weight": {"dtype": "BF16", "shape": [4, 4], "data_offsets": [64, 96]},
    "model.embed_tokens.weight": {"dtype": "F16", "shape": [8, 4], "data_offsets": [96, 160]},
}

_ODD: list[Callable[[random.Random], Any]] = [
    lambda _: None,
    lambda draw: draw.random() < 0.5,
    lambda draw: draw.choice([0, -1, 1, 8, 2**31, 2**63, -(2**63) - 1, 2_000_000_000, 10**4000]),
    lambda draw: draw.choice([0.0, -0.0, 0.5, 1e308, -1e-320, float("nan"), float("inf")]),
    lambda draw: draw.choice(["", "a", "\0", "\ud800", "\u2028", "é" * 300, "x" * 20_000, "8"]),
    lambda draw: draw.choice(["(a+)+$", "[", "(?i)a|b", ".*", "all-linear", "#/$defs/rank", "#"]),
    lambda draw: draw.choice(["ADALORA", "a/../b", "../x", "-x", "$ref", "F32", "a" + ".a" * 80]),
    lambda _: [],
    lambda _: {},
    lambda draw: ["a"] * draw.choice([1, 50, 3000]),
    lambda draw: {f"k{i}": i for i in range(draw.choice([1, 60, 2000]))},
    lambda draw: _nested(draw.choice([5, 30, 63, 64, 70])),
]  # fmt: skip


def _nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def mutated(draw: random.Random, structure: Any) -> Any:
    """Return a copy of a structure in which a few nodes are replaced, removed, moved or renamed."""
    value = copy.deepcopy(structure)
    for _ in range(draw.randint(1, 4)):
        nodes = list(_containers(value))
        node = draw.choice(nodes)
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        other = draw.choice(nodes)
        odd = draw.choice(_ODD)(draw)
        action = draw.randrange(5)
        if not keys or action == 0:
            _add(draw, node, odd)
        elif action == 1:
            del node[draw.choice(keys)]
        elif action == 2:
            node[draw.choice(keys)] = copy.deepcopy(other)
        elif action == 3 and isinstance(node, dict):
            key = draw.choice(keys)
            names = [draw.choice(keys) + draw.choice(["", "s", ".x"]), *SAVED, *_words(odd)]
            node[draw.choice(names)] = node.pop(key)
        else:
            node[draw.choice(keys)] = odd
    return value


def _words(odd: Any) -> list[str]:
    return [odd] if isinstance(odd, str) else []


def _add(draw: random.Random, node: Any, odd: Any) -> None:
    if isinstance(node, dict):
        node[draw.choice([*SAVED, "x", "", "a.b", *_words(odd)])] = odd
    else:
        node.insert(draw.randint(0, len(node)), odd)


def _containers(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        yield value
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _containers(entry)


_TOKENS = [
    b"{", b"}", b"[", b"]", b'"', b"'", b",", b":", b"\n", b"- ", b"&a ", b"*a ", b"<<: *a\n",
    b"!!int ", b"!!float ", b"!x ", b"# adalora: ignore[ADA202]\n", b"\xff", b"\0",
    b"\xef\xbb\xbf", b"'''", b'"""', b"= ", b"[[a]]\n", b"a." * 70, b"1" + b":59" * 9, b"0x", b"{{",
    b"9" * (MOST_DIGITS + 1),
]  # fmt: skip


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Return content of which, in half of the cases, a few bytes are changed."""
    data = bytearray(content)
    for _ in range(draw.choice([0, 0, 0, 1, 2, 4])):
        at = draw.randrange(len(data) + 1)
        action = draw.randrange(4)
        if action == 0:
            data[at:at] = draw.choice(_TOKENS) * draw.choice([1, 1, 1, 300])
        elif action == 1:
            del data[at : at + draw.randint(1, 20)]
        elif action == 2:
            data[at : at + 1] = bytes([draw.randrange(256)])
        else:
            del data[at:]
    return bytes(data)


def as_json(value: Any) -> bytes:
    """Write a structure as JSON, lone surrogates and NaN included."""
    return _with_digits(lambda: json.dumps(value)).encode("utf-8", "surrogatepass")


def _with_digits(write: Callable[[], str]) -> str:
    """Write without Python's limits on digits and depth."""
    before = sys.get_int_max_str_digits(), sys.getrecursionlimit()
    sys.set_int_max_str_digits(0)
    sys.setrecursionlimit(20_000)
    try:
        return write()
    finally:
        sys.set_int_max_str_digits(before[0])
        sys.setrecursionlimit(before[1])


def as_yaml(draw: random.Random, value: Any) -> bytes:
    """Write a structure as YAML, in flow or block style, with aliases for shared parts."""
    style = draw.choice([None, True, False])
    text = _with_digits(lambda: yaml.dump(value, default_flow_style=style, allow_unicode=True))
    return text.encode("utf-8", "surrogatepass")


def as_toml(value: Any) -> bytes:
    """Write a structure as TOML, with dotted keys for mappings inside of mappings."""
    lines = _with_digits(lambda: "".join(_toml_lines((), value)))
    return lines.encode("utf-8", "surrogatepass")


def _toml_lines(above: tuple[str, ...], value: Any) -> Any:
    for key, entry in value.items() if isinstance(value, dict) else [("x", value)]:
        path = (*above, str(key))
        if isinstance(entry, dict) and entry:
            yield from _toml_lines(path, entry)
        else:
            yield f"{'.'.join(_toml_key(part) for part in path)} = {_toml_value(entry)}\n"


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{_toml_key(str(key))} = {_toml_value(entry)}" for key, entry in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps("null" if value is None else value)


def as_safetensors(draw: random.Random, header: Any, data: bytes) -> bytes:
    """Write a header before data; its length is wrong in a tenth of the cases."""
    raw = header if isinstance(header, bytes) else as_json(header)
    length = len(raw)
    if draw.random() < 0.1:
        length = draw.choice([0, 1, max(0, length - 1), length + 9, 2**31, 2**63, 2**64 - 1])
    return length.to_bytes(8, "little") + raw + data


def _split(content: bytes) -> tuple[Any, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


class Generator:
    """Makes the input of a format from a seed.

    Args:
        adapter: the files of a saved adapter with a training state.
    """

    def __init__(self, adapter: Files) -> None:
        self._saved = adapter

    def make(self, format_: str, seed: int) -> Files:
        """Return the files of an input, always the same ones for one format and seed."""
        draw = random.Random(f"{format_} {seed}")  # noqa: S311 - test data
        made: Files = getattr(self, f"_{format_}")(draw)
        return made

    def _json(self, draw: random.Random) -> Files:
        return {"a.json": damaged(draw, as_json(mutated(draw, SAVED)))}

    def _yaml(self, draw: random.Random) -> Files:
        return {"a.yaml": damaged(draw, as_yaml(draw, mutated(draw, SAVED)))}

    def _toml(self, draw: random.Random) -> Files:
        return {"a.toml": damaged(draw, as_toml(mutated(draw, SAVED)))}

    def _header(self, draw: random.Random) -> Files:
        header = damaged(draw, as_json(mutated(draw, HEADER)))
        return {
            "a.json": as_json(SOUND),
            "model.safetensors": as_safetensors(draw, header, bytes(160)),
        }

    def _policy(self, draw: random.Random) -> Files:
        return {"a.json": as_json(SOUND), "p.json": damaged(draw, as_json(mutated(draw, POLICY)))}

    def _pyproject(self, draw: random.Random) -> Files:
        content = damaged(draw, as_toml(mutated(draw, PROJECT)))
        return {"a.json": as_json(SOUND), "pyproject.toml": content}

    def _adapter(self, draw: random.Random) -> Files:
        files = dict(self._saved)
        weights = "adapter_model.safetensors"
        if draw.random() < 0.5:
            config = mutated(draw, json.loads(files["adapter_config.json"]))
            files["adapter_config.json"] = damaged(draw, as_json(config))
        else:
            header, data = _split(files[weights])
            header = damaged(draw, as_json(mutated(draw, header)))
            files[weights] = as_safetensors(draw, header, data)
        return files

    def _state(self, draw: random.Random) -> Files:
        files = dict(self._saved)
        name = next(name for name in files if name.startswith("adalora_state"))
        header, data = _split(files[name])
        values = json.loads(header["__metadata__"]["adalora_state"])
        if draw.random() < 0.6:
            del values["digest"]
            values = {"digest": "0" * 64, **mutated(draw, values)}
        else:
            header = mutated(draw, header)
            data = damaged(draw, data)
        if isinstance(header.get("__metadata__"), dict):
            text = _with_digits(lambda: json.dumps(values, separators=(",", ":")))
            header["__metadata__"]["adalora_state"] = re.sub(
                r'^\{"digest":"[^"]*"', '{"digest":"' + "0" * 64 + '"', text
            )
        raw = _with_digits(lambda: json.dumps(header, separators=(",", ":"))).encode()
        content = as_safetensors(draw, raw, data)
        digest = hashlib.sha256(content).hexdigest().encode()
        files[name] = content.replace(b"0" * 64, digest, 1)
        return files


FORMATS = ("json", "yaml", "toml", "header", "policy", "pyproject", "adapter", "state")
