"""Check what is read from a script about its losses and its number of steps."""

from __future__ import annotations

import pytest
from usage_texts import HEAD, LOOP, usage

from adalora_core.checker.documents.python.syntax import keyword
from adalora_core.checker.scripts.losses import doubled_penalties, own_losses
from adalora_core.checker.scripts.step_order import run_length, unit
from adalora_core.checker.scripts.trainings import trainings


@pytest.mark.parametrize(
    ("loss", "is_own"),
    [
        ("model(**batch).loss", False),
        ("model(**batch)[0]", False),
        ("outputs.loss / 4", False),
        ("criterion(model(x).logits, y)", True),
        ("nn.functional.cross_entropy(model(x).logits, y) / 4", True),
        ("((model(x)[0] - y) ** 2).mean()", True),
        ("-nn.functional.log_softmax(model(x).logits, -1).gather(1, y).squeeze(1).mean()", True),
        ("imported(model, batch)", False),
    ],
)
def test_own_loss(loss, is_own):
    code = LOOP.replace("model(**batch).loss", loss)
    script = usage("from torch import nn\n" + HEAD + "criterion = nn.MSELoss()\n" + code)
    (training,) = script.once(trainings)
    assert bool(list(own_losses(script, training))) is is_own


def test_loss_of_a_function_that_is_given_the_model_is_not_known_to_be_its_own():
    imports = "from project.losses import batch_loss\n"
    script = usage(imports + HEAD + LOOP.replace("model(**batch).loss", "batch_loss(model, batch)"))
    (training,) = script.once(trainings)
    assert not list(own_losses(script, training))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("len(dataset) * epochs", "samples"),
        ("len(train_loader) * epochs", "micro-batches"),
        ("len(dataset) // batch_size * epochs", "micro-batches"),
        ("len(train_loader) // accumulation * epochs", "steps"),
        ("math.ceil(len(train_loader) / args.gradient_accumulation_steps) * epochs", "steps"),
        ("len(ds) // args.bs * epochs", "micro-batches"),
        ("len(ds) // args.total * epochs", "unknown"),
        ("given", "unknown"),
    ],
)
def test_unit_of_a_total(expression, expected):
    before = 'ds = load_dataset("rows")["train"]\nloader_of(ds, batch_size=args.bs)\n'
    code = f"from peft import AdaLoraConfig\n{before}AdaLoraConfig(total_step={expression})\n"
    script = usage(code)
    assert unit(script, keyword(script.script.calls[0].node, "total_step")) == expected


def test_length_of_a_run_is_known_from_its_loops():
    code = LOOP.replace("enumerate(loader)", "enumerate(range(50))")
    script = usage(HEAD + code)
    (training,) = script.once(trainings)
    assert run_length(script, training) is None
    code = LOOP.replace("i, batch in enumerate(loader)", "batch in range(50)")
    script = usage(HEAD + code + "model.save_pretrained(folder)\n")
    (training,) = script.once(trainings)
    assert run_length(script, training) == 150


@pytest.mark.parametrize(
    ("lines", "is_doubled"),
    [
        (["loss = model(**batch).loss + model.orthogonality_penalty()"], True),
        (["out = model(**batch)", "loss = (out.loss + model.orthogonality_penalty()) / 4"], True),
        (["loss = model(**batch).loss", "loss += model.orthogonality_penalty()"], True),
        (["loss = model(**batch).loss", "loss = loss + model.orthogonality_penalty()"], True),
        (["loss = mse_loss(model(x).logits, y) + model.orthogonality_penalty()"], False),
        (["loss = other(**batch).loss + model.orthogonality_penalty()"], False),
        (["loss = model(**batch).loss", "log(model.orthogonality_penalty())"], False),
        (
            ["own = mse_loss(model(x).logits, y) + model.orthogonality_penalty()",
             "loss = model(**batch).loss if labels else own"],
            False,
        ),
    ],
)  # fmt: skip
def test_penalty_beside_the_loss_of_the_outputs(lines, is_doubled):
    body = "\n        ".join(lines)
    script = usage(HEAD + LOOP.replace("loss = model(**batch).loss", body))
    (training,) = script.once(trainings)
    assert bool(list(doubled_penalties(script, training))) is is_doubled
