"""Find totals that are not the steps that a script trains: other epochs, epochs that are cut."""

from __future__ import annotations

import textwrap

import pytest
from usage_texts import codes

from adalora_core.checker.check import check_config
from adalora_core.checker.rules.usage_base import CALLBACK, EPOCHS, HEAD, LOOP, example


def _script(total: str, loop: str, *, before: str = "") -> str:
    return before + HEAD.replace("total_step=1000", f"total_step={total}") + loop


@pytest.mark.parametrize(
    ("total", "rounds", "is_fault"),
    [
        ("len(loader) * 3", "range(10)", True),
        ("3 * len(loader)", "range(1, 11)", True),
        ("math.ceil(len(loader) / 2) * FEW", "range(MANY)", True),
        ("len(loader)", "range(5)", True),
        ("count(loader, 3)", "range(10)", True),
        ("len(loader) // 2 * 10", "range(10)", False),
        ("len(loader) * MANY", "range(MANY)", False),
        ("len(loader) * args.epochs", "range(10)", False),
        ("len(loader) * 3", "range(args.epochs)", False),
        ("len(loader) * 3", "range(10) if again else range(3)", False),
        (
            "len(loader) * 3",
            "range(10):\n    if epoch < 7:\n        continue",
            False,
        ),
    ],
)
def test_total_of_other_epochs_than_the_loop(total, rounds, is_fault):
    before = "FEW, MANY = 3, 10\n\n\ndef count(loader, epochs):\n    return len(loader) * epochs\n"
    loop = EPOCHS.replace("range(3)", rounds).replace("continue:", "continue")
    assert ("ADA912" in codes(_script(total, loop, before=before))) is is_fault
    function = f"def train(rounds):\n{textwrap.indent(loop.replace(rounds, 'rounds'), '    ')}"
    text = _script(total, f"{function}train({rounds})\n", before=before)
    assert "ADA912" not in codes(text) or is_fault


@pytest.mark.parametrize(
    ("settings", "is_fault"),
    [
        ("num_train_epochs=10", True),
        ("num_train_epochs=3", False),
        ("num_train_epochs=10, max_steps=args.steps", False),
        ("num_train_epochs=epochs", False),
    ],
)
def test_total_of_other_epochs_than_trainer(settings, is_fault):
    imports = "from transformers import Trainer, TrainerCallback, TrainingArguments"
    trainer = CALLBACK.replace("model=model, train", "model=model, args=settings, train")
    text = example(f'settings = TrainingArguments("out", {settings})\n{trainer}', imports)
    text = text.replace("total_step=1000", "total_step=len(loader) * 3")
    assert codes(text) == ({"ADA912"} if is_fault else set())


def test_schedule_of_a_total_in_epochs_follows_from_the_unit():
    text = _script("EPOCHS", EPOCHS.replace("range(3)", "range(EPOCHS)"), before="EPOCHS = 3\n")
    found = check_config(text, format="python").diagnostics
    assert {each.code: each.cause and each.cause.code for each in found} == {
        "ADA911": None, "ADA202": "ADA911",
    }  # fmt: skip


SAMPLES = 'rows = load_dataset("x")["train"]\nloader = DataLoader(rows, batch_size=16)\n'
ACCUMULATED = """\
step = 0
for i, batch in enumerate(loader):
    (model(**batch).loss / 4).backward()
    if (i + 1) % 4 == 0:
        optimizer.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        step += 1
"""


@pytest.mark.parametrize(
    ("run_over", "is_fault"),
    [("batches", False), ("tqdm(enumerate(batches))", False), ("Loader(batches, 8)", True)],
)
def test_list_whose_entries_have_a_step_each_counts_steps(run_over, is_fault):
    before = "batches = [row for row in file]\n"
    text = _script("len(batches)", LOOP.replace("batches", run_over), before=before)
    assert ("ADA911" in codes(text)) is is_fault


@pytest.mark.parametrize(
    ("body", "measured", "is_fault"),
    [
        ("return len(given)", "rows", True),
        ("return {'steps': len(given)}['steps']", "rows", True),
        ("number = len(given)\n    return number * 3", "loader", True),
        ("return math.ceil(len(given) / 4)", "loader", False),
    ],
)
def test_total_of_samples_or_micro_batches_from_a_function(body, measured, is_fault):
    before = f"{SAMPLES}def count(given):\n    {body}\n"
    text = _script(f"count({measured})", ACCUMULATED, before=before)
    assert ("ADA911" in codes(text)) is is_fault
