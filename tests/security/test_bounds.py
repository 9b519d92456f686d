"""Memory and time are bounded by the size of the input, also at ten times every limit."""

from __future__ import annotations

import json

import pytest
from confined import needs_peft

from adalora_core.checker.plan.header import LARGEST_HEADER, LONGEST_NAME, MOST_PARTS, MOST_TENSORS
from adalora_core.checker.plan.modules import MOST_MODULES
from adalora_core.config.rules.base import SOUND
from adalora_core.floor.limits import DEFAULT_LIMITS

MEGABYTES = 1 << 20
# Seconds of an idle machine, with a reserve: what is not bounded takes many times as much.
SECONDS_OF_A_CHECK, MEMORY_OF_A_CHECK = 2 * 1, 300 * MEGABYTES
SECONDS, MEMORY = 2 * 5, 1024 * MEGABYTES

CHECK = """
IMPORTS = ()
def main(argv):
    from adalora_core.commands.cli import main
    return main(["check", "--isolated", "-o", "concise", *argv])
"""
PLAN = """
IMPORTS = ("adalora_core.commands.cli.plan", "adalora_core.commands.injection.injecting")
def main(argv):
    from adalora_core.commands.cli import main
    return main(["plan", *argv])
"""


def _config(**changes):
    return json.dumps(SOUND | changes)


def _yaml(lines):
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in SOUND.items()) + lines


def _toml(lines):
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in SOUND.items()) + lines


LIMITS = DEFAULT_LIMITS


BEYOND = {
    "file-bytes.json": lambda: _config(revision="x" * (10 * LIMITS.file_bytes)),
    "file-bytes.yaml": lambda: _yaml("#" * (10 * LIMITS.file_bytes)),
    "file-bytes.toml": lambda: _toml("#" * (10 * LIMITS.file_bytes)),
    "depth.json": lambda: _config()[:-1] + ', "x": ' + "[" * 640 + "]" * 640 + "}",
    "depth.yaml": lambda: _yaml("x: " + "[" * 640 + "]" * 640 + "\n"),
    "depth.toml": lambda: _toml("x = " + "[" * 640 + "]" * 640 + "\n"),
    "depth-of-a-key.toml": lambda: _toml("a." * 640 + "a = 1\n"),
    "depth-of-a-table.toml": lambda: _toml("[" + "a." * 50_000 + "a]\n"),
    "nodes.json": lambda: _config(x=[0] * (10 * LIMITS.nodes // 2)),
    "nodes.yaml": lambda: _yaml("x: [" + "0," * (10 * LIMITS.nodes // 2) + "]\n"),
    "nodes.toml": lambda: _toml("x = [" + "0," * (10 * LIMITS.nodes // 2) + "]\n"),
    "nodes-of-keys.toml": lambda: _toml("".join(f"k{i}{'.a' * 50} = 1\n" for i in range(30_000))),
    "nodes-of-one-dot.toml": lambda: _toml("".join(f"b.k{i}=1\n" for i in range(190_000))),
    "nodes-below-a-table.toml": lambda: _toml(
        f"[{'a.' * 59}a]\n" + "".join(f"b{i}.k=1\n" for i in range(90_000))
    ),
    "nodes-of-tables.toml": lambda: _toml("".join(f"[k{i}]\n" for i in range(400_000))),
    "diagnostics.json": lambda: _config(**{f"k{i}": 1 for i in range(10 * LIMITS.diagnostics)}),
    "diagnostics.yaml": lambda: _yaml("".join(f"k{i}: 1\n" for i in range(50_000))),
    "diagnostics-of-tags.yaml": lambda: _yaml("x:\n" + "- !x 1\n" * 100_000),
    "diagnostics-of-repeated-keys.json": lambda: (
        _config()[:-1] + "".join(f', "k{i}": 1, "k{i}": 2' for i in range(45_000)) + "}"
    ),
    "equal-hashes.yaml": lambda: _yaml(
        "x: {" + ",".join(f"{(2**61 - 1) * i}: 1" for i in range(1, 130_000)) + "}\n"
    ),
    "equal-hashes-merged.yaml": lambda: _yaml(
        "".join(
            f"a{j}: &a{j} {{{','.join(f'{(2**61 - 1) * (900 * j + i)}: 1' for i in range(900))}}}\n"
            for j in range(99)
        )
        + f"x: {{<<: [{','.join(f'*a{j}' for j in range(99))}]}}\n"
    ),
}
"""Documents beyond a limit, most of them at ten times its size."""

FAST = {"depth.yaml", "diagnostics.json", "file-bytes.json", "nodes.toml"}
"""One document for each limit; the others are in the slow tier."""


def _slow_but(chosen, names):
    return [pytest.param(name, marks=() if name in chosen else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", _slow_but(FAST, BEYOND))
def test_check_is_bounded(confined, name):
    confined.write({name: BEYOND[name]()})
    used = confined.measure(CHECK, name)
    assert used.seconds < SECONDS_OF_A_CHECK
    assert used.memory < MEMORY_OF_A_CHECK
    assert "ADA005" in used.shown
    assert used.shown.count("\n") < LIMITS.diagnostics + 10


def test_dots_of_a_text_are_not_those_of_a_key(confined):
    confined.write(
        {
            "a.toml": _toml(
                "x = '" + "a." * 100 + "' # " + "a." * 100 + '\n"' + "b." * 99 + '" = 1\n'
            )
        }
    )
    assert "ADA005" not in confined.run("check", "a.toml").stdout


FIX = CHECK.replace('"-o", "concise"', '"--fix", "--unsafe-fixes"')


def test_fixes_that_all_conflict_are_bounded(confined):
    # Each number is in a mapping that the configuration merges: a fix would change both.
    shared = "".join(f'  k{i}: &a{i} {{init_r: "8"}}\n' for i in range(400))
    merged = "".join(f"b{i}:\n  <<: *a{i}\n  peft_type: ADALORA\n" for i in range(400))
    confined.write({"c.yaml": f"keys:\n{shared}{merged}"})
    used = confined.measure(FIX, "c.yaml")
    assert "too many fixes conflict to try each" in used.shown
    assert used.code == 1
    assert used.seconds < SECONDS
    assert (confined.tree / "c.yaml").read_text() == f"keys:\n{shared}{merged}"


def _weights(header):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw


def _named(names):
    return _weights(
        {name: {"dtype": "F32", "shape": [4, 0], "data_offsets": [0, 0]} for name in names}
    )


HEADERS = {
    "bytes": (lambda: _weights(b" " * (10 * LARGEST_HEADER)), "more than the limit of 33554432"),
    "nested": (lambda: _weights(b"[" * LARGEST_HEADER), "nested too deep"),
    "tensors": (
        lambda: _named(f"layers.{i}.q_proj.weight" for i in range(3 * MOST_TENSORS)),
        "300000 tensors are more than the limit of 100000",
    ),
    "name": (lambda: _named(["q" * (10 * LONGEST_NAME)]), "the limits are 1000 and 64"),
    "parts": (
        lambda: _named(["a." * (10 * MOST_PARTS) + "weight"]),
        "has 1286 characters and 641 parts",
    ),
    "dots": (lambda: _named(["a." * 50_000 + "weight"]), "has 100006 characters and 50001 parts"),
    "modules": (
        lambda: _named(f"{i}.{'a.' * 60}weight" for i in range(10 * MOST_MODULES // 60)),
        "imply more than 200000 modules",
    ),
}


@needs_peft
@pytest.mark.parametrize("name", _slow_but({"bytes", "name", "parts", "dots"}, HEADERS))
def test_plan_of_a_header_beyond_a_limit_is_bounded(confined, name):
    content, phrase = HEADERS[name]
    confined.write({"c.json": _config(), "model.safetensors": content()})
    confined.memory = 8 << 30  # torch maps more than it uses
    used = confined.measure(PLAN, "c.json", "--weights", "model.safetensors")
    assert phrase in used.shown
    assert used.code == 2
    assert used.seconds < SECONDS
    assert used.memory < MEMORY


def test_rank_of_a_matrix_is_bounded():
    torch = pytest.importorskip("torch")
    from adalora_core import AdaLoraConfig, get_peft_model

    # adalora: ignore[ADA307, ADA413] - more than any memory holds
    config = AdaLoraConfig(init_r=2_000_000_000, target_r=8, total_step=1000, target_modules=["0"])
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, device="meta"))
    with pytest.raises(ValueError, match="init_r 2000000000 is above the limit of 1048576"):
        get_peft_model(model, config)
