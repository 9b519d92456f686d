"""Judge small scripts that allocate at wrong steps, on one process, or not at all."""

from __future__ import annotations

import pytest
from usage_texts import codes

from adalora_core import check_config
from adalora_core.checker.rules.usage_base import CALLBACK, HEAD, LOOP, example


@pytest.mark.parametrize(
    ("guard", "is_fault"),
    [
        ("accelerator.is_main_process", True),
        ("dist.get_rank() == 0", True),
        ("local_rank in [-1, 0]", True),
        ("not accelerator.is_main_process", False),
        ("accelerator.sync_gradients", False),
        ("accelerator.is_main_process or True", False),
    ],
)
def test_call_on_the_main_process_alone(guard, is_fault):
    loop = LOOP.replace("    model.base", f"    if {guard}:\n        model.base")
    assert ("ADA917" in codes(HEAD + loop)) is is_fault


HEAD_ALONE = """\
def warm_up(model):
    freeze(model)
    head = AdamW(model.parameters())
    for batch in loader:
        model(**batch).loss.backward()
        head.step()
        head.zero_grad()


def freeze(model):
    for n, p in model.named_parameters():
        p.requires_grad = "classifier" in n


warm_up(model)
"""


def test_loop_that_trains_a_head_alone_needs_no_allocation():
    assert codes(HEAD + HEAD_ALONE + LOOP) == set()
    assert "ADA901" in codes(HEAD + HEAD_ALONE)
    assert "ADA901" in codes(HEAD + HEAD_ALONE.replace("    freeze(model)\n", "") + LOOP)


OWN_STEP = """\
class Own(Trainer):
    def training_step(self, model, inputs, *rest):
        loss = model(**inputs).loss
        loss.backward()
        self.optimizer.step()
        model.base_model.update_and_allocate(self.state.global_step)
        self.optimizer.zero_grad()
        return loss


Own(model=model, train_dataset=rows).train()
"""


def test_step_that_a_method_of_trainer_makes_itself_is_followed_by_the_call():
    step = "        self.optimizer.step()\n"
    assert "ADA908" not in codes(example(OWN_STEP, "from transformers import Trainer"))
    later = OWN_STEP.replace(step, "")
    assert "ADA908" in codes(example(later, "from transformers import Trainer"))


WAITS = "    if step % s['accum']:\n        continue\n    model.b"
EVERY = """\
def every(model, number, step):
    if step % number == 0:
        model.base_model.update_and_allocate(step)
"""


EVALUATION = """\
def evaluate(model, step):
    model.base_model.update_and_allocate(step)


step = 0
for epoch in range(3):
    for batch in loader:
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
        step += 1
        if CONDITION:
            evaluate(model, step)
"""


ACCUMULATED = """\
step = 0
for i, batch in enumerate(loader):
    model(**batch).loss.backward()
    if (i + 1) % 4 == 0:
        optimizer.step()
        if GUARD:
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        step += 1
"""


@pytest.mark.parametrize(
    ("text", "is_fault"),
    [
        *(
            (LOOP.replace("    model.base", f"    if {guard}:\n        model.base"), is_fault)
            for guard, is_fault in (
                ("step % config.deltaT == 0", True),
                ("not step % 10", True),
                ("step >= 200 and step % every == 0", True),
                ("step >= 0", False),
                ("step % 1 == 0", False),
            )
        ),
        (LOOP.replace("    model.b", "    if step % 9:\n        continue\n    model.b"), True),
        (EVERY + LOOP.replace("model.base_model.update_and_allocate(", "every(model, 5, "), True),
        (EVALUATION.replace("CONDITION", "step % 500 == 0"), True),
        (EVALUATION.replace("    if CONDITION:\n            e", "e"), True),
        (EVALUATION.replace("    if CONDITION:\n            e", "    e"), False),
        (ACCUMULATED.replace("GUARD", "step % config.deltaT == 0"), True),
        (ACCUMULATED.replace("GUARD", "step > 0"), False),
        (LOOP.replace("    model.b", WAITS), False),
        (LOOP + "model.base_model.update_and_allocate(1000)\n", False),
    ],
)  # fmt: skip
def test_call_for_some_steps_only(text, is_fault):
    assert ("ADA926" in codes(HEAD + text)) is is_fault


@pytest.mark.parametrize(
    ("guard", "is_fault"),
    [("state.global_step % args.logging_steps == 0", True), ("state.global_step > 5", False)],
)
def test_callback_that_waits_for_several_steps(guard, is_fault):
    script = CALLBACK.replace("        model.base", f"        if {guard}:\n            model.base")
    text = example(script, "from transformers import Trainer, TrainerCallback")
    assert codes(text) == ({"ADA926"} if is_fault else set())
    assert codes(text.replace("on_optimizer_step", "on_step_end")) == {"ADA908"}


FACTORY = """\
def make_step(model, optimizer):
    def one(batch, number):
        model(**batch).loss.backward()
        optimizer.step()
        ALLOCATE
        optimizer.zero_grad()

    return one


one_step = make_step(model, optimizer)
for epoch in range(3):
    for number, batch in enumerate(loader):
        one_step(batch, number)
"""


OBJECT = """\
class OneStep:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer

    def __call__(self, batch, number):
        self.model(**batch).loss.backward()
        self.optimizer.step()
        ALLOCATE
        self.optimizer.zero_grad()


one_step = OneStep(model, optimizer)
for number, batch in enumerate(loader):
    one_step(batch, number)
"""


@pytest.mark.parametrize(
    ("code", "allocate", "expected"),
    [
        (FACTORY, "pass", {"ADA901"}),
        (FACTORY, "model.base_model.update_and_allocate(number)", {"ADA904"}),
        (OBJECT, "pass", {"ADA901"}),
        (OBJECT, "self.model.base_model.update_and_allocate(number)", set()),
    ],
)
def test_step_that_another_function_makes_is_followed(code, allocate, expected):
    assert codes(HEAD + code.replace("ALLOCATE", allocate)) == expected


MANUAL = """\
class Module(LightningModule):
    def __init__(self):
        self.automatic_optimization = False
        self.net = get_peft_model(base, config)

    def training_step(self, batch, batch_idx):
        opt_a, opt_b = self.optimizers()
        self.manual_backward(self.net(**batch).loss)
        opt_a.step()
        opt_b.step()
        self.net.base_model.update_and_allocate(STEP)
        opt_a.zero_grad()
        opt_b.zero_grad()
"""


@pytest.mark.parametrize(
    ("step", "expected"),
    [("self.global_step", {"ADA903"}), ("self.global_step // 2", set()), ("self.done", set())],
)
def test_number_that_lightning_raises_for_each_optimizer(step, expected):
    head = HEAD.partition("model =")[0].replace(
        "\n\n", "\nfrom lightning import LightningModule\n\n", 1
    )
    assert codes(f"{head}{MANUAL.replace('STEP', step)}") == expected
    alone = MANUAL.replace("STEP", step).replace("        opt_b.step()\n", "")
    assert codes(head + alone) == set()


@pytest.mark.parametrize(
    ("imports", "severity"),
    [
        ("from peft", "warning"),
        ("from adalora_core.peft", "info"),
        ("from adalora_core import allocate_automatically\nfrom adalora_core.peft", "warning"),
    ],
)
def test_missing_call_is_an_information_where_the_package_calls(imports, severity):
    script = HEAD + LOOP.replace("    model.base_model.update_and_allocate(step)\n", "")
    report = check_config(script.replace("from peft", imports), format="python")
    found = [each for each in report.diagnostics if each.code == "ADA901"]
    assert [each.severity for each in found] == [severity]
    assert ("adalora_core calls it" in found[0].message) == (severity == "info")
