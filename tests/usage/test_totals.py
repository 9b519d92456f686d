"""Find totals that are not the steps that a script trains: other epochs, epochs that are cut."""

from __future__ import annotations

import textwrap

import pytest
from usage_texts import codes

from adalora_core.checker.rules.usage_base import CALLBACK, EPOCHS, HEAD, example


def _script(total: str, loop: str, *, before: str = "") -> str:
    return before + HEAD.replace("total_step=1000", f"total_step={total}") + loop


def _exit(test: str, *, by: str = "break", over: str = "for batch in loader") -> str:
    loop = EPOCHS.replace("for batch in loader", over)
    return loop.replace("step += 1\n", f"step += 1\n        if {test}:\n            {by}\n")


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


def _in_a_function(loop: str) -> str:
    return f"def train():\n{textwrap.indent(loop, '    ')}train()\n"


ENUMERATED = "for i, batch in enumerate(tqdm(loader))"


@pytest.mark.parametrize(
    ("loop", "is_fault"),
    [
        (_exit("i == 100", over=ENUMERATED), True),
        (_exit("i >= args.limit", over=ENUMERATED), True),
        (_exit("step >= 500"), True),
        (_in_a_function(_exit("step >= 500", by="return")), True),
        (EPOCHS.replace("in loader", "in islice(loader, 100)"), True),
        (_exit("step == 1"), False),
        (_exit("loss.isnan()"), False),
        (_exit("args.most > 0 and step >= args.most"), False),
        (_exit("args.limit and i >= args.limit", over=ENUMERATED), False),
        (_exit("skipped > 10").replace("step += 1", "if bad:\n            skipped += 1"), False),
        (_exit("step >= limit"), False),
        (_exit("i == 100", over="for i, batch in enumerate(others)"), False),
    ],
)  # fmt: skip
def test_epochs_that_end_early(loop, is_fault):
    assert ("ADA922" in codes(_script("3 * len(loader)", loop))) is is_fault


@pytest.mark.parametrize("total", ["min(3 * len(loader), 500)", "500", "limit"])
def test_total_that_knows_the_end_of_the_loop_is_right(total):
    text = _script(total, _exit("step >= limit" if total == "limit" else "step >= 500"))
    assert codes(text) <= {"ADA207"}


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
