"""No mutated structure ends a reader of tensors or settings otherwise than with its own errors.

tests/contract/test_fuzz.py does the same for configurations.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from adalora_core.commands.cli import main
from adalora_core.config.rules.base import SOUND

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Files = dict[str, bytes]
SEEDS, SEEDS_OF_A_PLAN = 300, 40
"""Inputs of a kind; a plan asks PEFT for each, and takes longer."""
SAVED = SOUND | {
    "inference_mode": True,
    "rank_pattern": {"0.lora_E": [True, True, True, False]},
    "layers_pattern": ["layers"],
}
POLICY = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "required": ["target_r"],
    "properties": {"target_r": {"enum": [4, 8]}, "init_r": {"$ref": "#/$defs/rank"}},
    "$defs": {"rank": {"type": "integer", "minimum": 1, "maximum": 64}},
    "allOf": [{"if": {"properties": {"bias": {"const": "all"}}}, "then": {"minProperties": 3}}],
    "anyOf": [{"not": {"required": ["x"]}}, {"patternProperties": {"^l": {"type": "string"}}}],
}
PROJECT = {
    "exclude": ["old/*.json"],
    "ignore": ["ADA207"],
    "per-file-ignores": {"a.json": ["ADA204"]},
    "limit": ["nodes=1000"],
    "strict-keys": True,
}
HEADER = {
    "__metadata__": {"format": "pt"},
    "model.layers.0.q_proj.weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
    "model.layers.0.v_proj.weight": {"dtype": "BF16", "shape": [4, 4], "data_offsets": [64, 96]},
    "model.embed_tokens.weight": {"dtype": "F16", "shape": [8, 4], "data_offsets": [96, 160]},
}
ODD: list[Any] = [
    *(None, True, 0, -1, 8, 2**31, 2**63, -(2**63) - 1, 2_000_000_000, 10**4000),
    *(-0.0, 0.5, 1e308, float("nan"), float("inf"), "", "\0", "\ud800", "\u2028", "x" * 20_000),
    *("(a+)+$", "[", ".*", "all-linear", "#/$defs/rank", "#", "../x", "$ref", "a" + ".a" * 80),
    *([], {}, ["a"] * 3000, {f"k{i}": i for i in range(2000)}),
]
TOKENS = [b"{", b"}", b"[", b'"', b",", b":", b"\xff", b"\0", b"= ", b"[[a]]\n", b"a." * 70]
TOKENS += [b"0x", b"9" * 4301]


def containers(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        yield value
        for entry in value.values() if isinstance(value, dict) else value:
            yield from containers(entry)


def mutated(draw: random.Random, structure: Any) -> Any:
    """Return a copy of a structure in which a few nodes are added, removed or replaced."""
    value = copy.deepcopy(structure)
    for _ in range(draw.randint(1, 4)):
        nodes = list(containers(value))
        node = draw.choice(nodes)
        odd = copy.deepcopy(draw.choice([*ODD, draw.choice(nodes)]))
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys or draw.random() < 0.2:
            new = odd if isinstance(odd, str) else draw.choice([*SAVED, "x", ""])
            node.update({new: odd}) if isinstance(node, dict) else node.append(odd)
        elif draw.random() < 0.25:
            del node[draw.choice(keys)]
        else:
            node[draw.choice(keys)] = odd
    return value


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Return content of which, in half of the cases, a few bytes are changed."""
    data = bytearray(content)
    for _ in range(draw.choice([0, 0, 0, 1, 2, 4])):
        at = draw.randrange(len(data) + 1)
        end = at + draw.choice([0, 1, 20, len(data)])
        data[at:end] = draw.choice([b"", draw.choice(TOKENS) * draw.choice([1, 300])])
    return bytes(data)


def as_json(value: Any) -> bytes:
    """Write a structure as JSON, lone surrogates, NaN and long numbers included."""
    return json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass")


def as_safetensors(draw: random.Random, header: bytes, data: bytes) -> bytes:
    """Write a header before data; its length is wrong in a tenth of the cases."""
    right = len(header)
    length = draw.choice([*[right] * 27, 0, right + 9, 2**64 - 1])
    return length.to_bytes(8, "little") + header + data


def of_a_header(draw: random.Random, _: Files) -> Files:
    header = damaged(draw, as_json(mutated(draw, HEADER)))
    weights = as_safetensors(draw, header, bytes(160))
    return {"a.json": as_json(SOUND), "model.safetensors": weights}


def of_a_policy(draw: random.Random, _: Files) -> Files:
    return {"a.json": as_json(SOUND), "p.json": damaged(draw, as_json(mutated(draw, POLICY)))}


def of_settings(draw: random.Random, _: Files) -> Files:
    lines = [
        f"{json.dumps(str(key))} = {json.dumps('' if value is None else value)}"
        for key, value in mutated(draw, PROJECT).items()
    ]
    text = "\n".join(["[tool.adalora]", *lines]).encode("utf-8", "surrogatepass")
    return {"a.json": as_json(SOUND), "pyproject.toml": damaged(draw, text)}


def parts_of(content: bytes) -> tuple[Any, bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def of_an_adapter(draw: random.Random, saved: Files) -> Files:
    config, weights = "adapter_config.json", "adapter_model.safetensors"
    if draw.random() < 0.5:
        made = damaged(draw, as_json(mutated(draw, json.loads(saved[config]))))
        return saved | {config: made}
    header, data = parts_of(saved[weights])
    made = damaged(draw, as_json(mutated(draw, header)))
    return saved | {weights: as_safetensors(draw, made, data)}


def of_a_state(draw: random.Random, saved: Files) -> Files:
    """Change values or tensors of the training state, whose digest fits nevertheless."""
    name = next(name for name in saved if name.startswith("adalora_state"))
    header, data = parts_of(saved[name])
    values = json.loads(header["__metadata__"]["adalora_state"])
    if draw.random() < 0.6:
        values = mutated(draw, values)
    else:
        header, data = mutated(draw, header), damaged(draw, data)
    if isinstance(header.get("__metadata__"), dict):
        values = {"digest": "0" * 64} | {k: v for k, v in values.items() if k != "digest"}
        text = as_json(values).decode("utf-8", "replace")
        header["__metadata__"]["adalora_state"] = text
    content = as_safetensors(draw, as_json(header), data)
    digest = hashlib.sha256(content).hexdigest().encode()
    return saved | {name: content.replace(b"0" * 64, digest, 1)}


LOADED = (of_an_adapter, of_a_state)
COMMANDS = {
    of_a_header: ["plan", "a.json", "--weights", "model.safetensors"],
    of_a_policy: ["check", "--isolated", "a.json", "--policy", "p.json"],
    of_settings: ["check", "a.json"],
}
DOTS = b"[tool.adalora]\n" + b"a." * 50_000 + b"\xff"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Return the files of an adapter with a training state."""
    torch = pytest.importorskip("torch", reason="would have shown that adapters are read safely")
    from adalora_core import AdaLoraConfig, get_peft_model

    schedule = {"tinit": 1, "tfinal": 2, "deltaT": 1, "total_step": 10}
    config = AdaLoraConfig(init_r=4, target_r=2, target_modules=["0", "1"], **schedule)
    layers = [torch.nn.Linear(8, 8) for _ in range(2)]
    model = get_peft_model(torch.nn.Sequential(*layers), config)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step in range(4):
        loss = model(torch.randn(2, 8)).square().sum() + model.orthogonality_penalty()
        loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder, save_training_state=True)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def assert_handled(make: Callable[..., Files], files: Files, capsys: Any) -> None:
    """Run the command or the load of a kind on `files` in the working folder."""
    for name, content in files.items():
        Path(name).write_bytes(content)
    if make in LOADED:
        from torch import nn

        from adalora_core import AdaLoraModel
        from adalora_core.floor.errors import AdaLoraError

        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        with contextlib.suppress(AdaLoraError, ValueError, OSError):
            AdaLoraModel.from_pretrained(model, ".", is_trainable=make is of_a_state)
        return
    code: Any
    try:
        code = main(COMMANDS[make])
    except SystemExit as error:
        code = error.code
    assert code in {0, 1, 2}
    # What the command prints about a file whose check has failed with an exception.
    assert "not checked: " not in "".join(capsys.readouterr())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [*COMMANDS, *LOADED])
def test_mutated_structures_are_handled(
    make: Callable[..., Files], request: pytest.FixtureRequest, capsys: Any
) -> None:
    files = request.getfixturevalue("saved") if make in LOADED else {}
    for seed in range(SEEDS_OF_A_PLAN if make is of_a_header else SEEDS):
        draw = random.Random(f"{make.__name__} {seed}")  # noqa: S311 - test data
        assert_handled(make, make(draw, files), capsys)


def test_dots_in_settings_that_are_not_text_are_handled(capsys: Any) -> None:
    assert_handled(of_settings, {"a.json": as_json(SOUND), "pyproject.toml": DOTS}, capsys)
