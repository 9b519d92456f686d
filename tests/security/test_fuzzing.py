"""No mutated structure ends a reader otherwise than with its own errors."""

from __future__ import annotations

import datetime as dt

import pytest
from fuzz_inputs import FORMATS, Generator
from fuzzing import Fuzzer

SECONDS = 60 / len(FORMATS)
NIGHTLY_SECONDS = 600 / len(FORMATS)
FOUND = {
    "dots-in-settings-that-are-not-text": (
        "pyproject",
        {
            "a.json": b'{"peft_type": "ADALORA"}',
            "pyproject.toml": b"[tool.adalora]\n" + b"a." * 50_000 + b"\xff",
        },
    ),
    "digits-that-are-text": (
        "yaml",
        {"a.yaml": b"peft_type: ADALORA\nrevision: " + b"9" * 1_000_000 + b"x\n"},
    ),
    "runs-of-digits-before-a-number": (
        "json",
        {"a.json": b'["' + (b"9" * 4299 + b" ") * 900 + b'", ' + b"9" * 4400 + b"]"},
    ),
}
"""Inputs that once failed: `{name: (format, files)}`."""


@pytest.fixture
def fuzzer(tmp_path):
    made = Fuzzer(tmp_path)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    torch = pytest.importorskip("torch", reason="would have shown that adapters are read safely")
    from adalora_core import AdaLoraConfig, get_peft_model

    torch.manual_seed(0)
    config = AdaLoraConfig(
        init_r=4, target_r=2, tinit=1, tfinal=2, deltaT=1, total_step=10, target_modules=["0", "1"]
    )
    model = get_peft_model(
        torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)), config
    )
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for step in range(4):
        loss = model(torch.randn(2, 8)).square().sum() + model.orthogonality_penalty()
        loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder, save_training_state=True)
    return Generator({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})


def _shown(found):
    return "\n".join(f"seed {seed}: {problem}" for seed, problem in list(found.items())[:5])


@pytest.mark.slow
@pytest.mark.parametrize("format_", FORMATS)
def test_mutated_structures_of_fixed_seeds_are_handled(fuzzer, generator, format_):
    found = fuzzer.search(generator, format_, 0, SECONDS)
    assert not found, _shown(found)


@pytest.mark.nightly
@pytest.mark.parametrize("format_", FORMATS)
def test_mutated_structures_of_the_day_are_handled(fuzzer, generator, format_):
    first = dt.datetime.now(dt.UTC).date().toordinal() << 24
    print("first seed", first)  # noqa: T201 - shown by pytest when the test fails
    found = fuzzer.search(generator, format_, first, NIGHTLY_SECONDS)
    assert not found, _shown(found)


@pytest.mark.parametrize("name", FOUND)
def test_input_that_once_failed_is_handled(fuzzer, name):
    assert fuzzer.problem(*FOUND[name]) is None
