"""Check what is read from a script: the order of its events, counters and trainings."""

from __future__ import annotations

import textwrap

import pytest
from usage_texts import HEAD, LOOP, allocation, usage

from adalora_core.checker.documents.python.syntax import unless_too_deep
from adalora_core.checker.rules.usage_steps import AllocationNeverCalled, StepRestarts
from adalora_core.checker.scripts.counters import step_counter
from adalora_core.checker.scripts.step_order import is_per_micro_batch, placement
from adalora_core.checker.scripts.trainings import (
    second_wraps,
    trainings,
)


@pytest.mark.parametrize(
    ("argument", "counts", "restarts"),
    [
        ("step", "steps", False),
        ("i", "steps", True),
        ("epoch", "epochs", False),
        ("epoch * len(loader) + i", "steps", False),
        ("8", "constant", False),
        ("local_rank", "constant", False),
        ("args.rank", "constant", False),
        ("something.of(batch)", "unknown", False),
    ],
)
def test_counter_of_an_argument(argument, counts, restarts):
    code = LOOP.replace("allocate(step)", f"allocate({argument})")
    found = step_counter(*allocation(code))
    assert (found.counts, found.restarts) == (counts, restarts)


@pytest.mark.parametrize("reset", ["step = 0", "step, seen = 0, 0"])
def test_counter_that_is_reset_in_each_epoch_restarts(reset):
    code = LOOP.replace("    for i,", f"    {reset}\n    for i,")
    assert step_counter(*allocation(code)).restarts


def test_counter_in_a_loop_over_runs_does_not_restart():
    code = """\
        for seed in range(3):
            model = get_peft_model(load(), config)
            optimizer = AdamW(model.parameters())
            for step in range(100):
                model(**batch).loss.backward()
                optimizer.step()
                model.update_and_allocate(step)
        """
    assert not step_counter(*allocation(code)).restarts


def test_counter_of_micro_batches_is_known_where_the_call_waits_for_the_step():
    code = """\
        step = 0
        for batch in loader:
            model(**batch).loss.backward()
            step += 1
            if step % 4 == 0:
                optimizer.step()
                model.update_and_allocate(step)
                optimizer.zero_grad()
        """
    assert step_counter(*allocation(code)).counts == "micro-batches"
    moved = code.replace("update_and_allocate(step)", "update_and_allocate(step // 4)")
    assert step_counter(*allocation(moved)).counts == "steps"


def test_gradients_that_another_optimizer_drops_are_left_alone():
    drops = "        optimizer.step()\n        OTHER.zero_grad()\n"
    for other, is_fault in (("discriminator_optimizer", False), ("optimizer", True)):
        code = LOOP.replace("        optimizer.step()\n", "")
        dropped = drops.replace("OTHER", other).splitlines(keepends=True)
        code = code.replace("        model.up", "".join(reversed(dropped)) + "        model.up")
        place = placement(allocation(code)[1])
        assert (place is not None and place.dropped is not None) is is_fault


@pytest.mark.parametrize(("count", "expected"), [("4", True), ("1", False)])
def test_accelerator_accumulates_only_above_one(count, expected):
    made = f"accelerator = Accelerator(gradient_accumulation_steps={count})\n"
    loop = "for i, batch in enumerate(loader):\n    with accelerator.accumulate(model):\n"
    step = "        optimizer.step()\n        model.update_and_allocate(i)\n"
    script, event = allocation(made + loop + step)
    place = placement(event)
    assert place is not None
    assert is_per_micro_batch(script, event, place) is expected


TRAINER = """\
trainer = Trainer(model=model, args=arguments, callbacks=[{callback}])
trainer.train()
"""
CALLBACK = """\
class Allocate(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.update_and_allocate(state.global_step)
"""


@pytest.mark.parametrize(
    ("callback", "allocates"),
    [
        ("Allocate()", True),
        ("EarlyStoppingCallback(3)", False),
        ("OtherCallback()", None),
        ("*others", None),
        ("AdaLoraCallback(model)", True),
    ],
)
def test_trainer_allocates_by_its_callbacks(callback, allocates):
    imports = (
        "from transformers import EarlyStoppingCallback, Trainer, TrainerCallback\n"
        "from adalora_core import AdaLoraCallback\n"
        "from project.callbacks import OtherCallback\n"
    )
    script = usage(imports + HEAD + CALLBACK + TRAINER.format(callback=callback))
    (training,) = script.once(trainings)
    assert training.allocates is allocates


def test_training_of_another_model_or_trainer_is_left_alone():
    assert not usage(HEAD.replace("AdaLora", "Lora") + LOOP).once(trainings)
    imported = "from project import MyTrainer\n" + HEAD + "MyTrainer(model).train()\n"
    assert [each.allocates for each in usage(imported).once(trainings)] == [None]
    passed = (
        HEAD.replace("optimizer = AdamW(model.parameters())", "")
        + """
def train(model, optimizer):
    for batch in loader:
        optimizer.step()
"""
    )
    assert not usage(passed).once(trainings)


def test_branches_that_exclude_each_other_are_no_second_adapter():
    code = HEAD.partition("model =")[0] + (
        "base = load()\nif small:\n    model = get_peft_model(base, config)\n"
        "else:\n    model = get_peft_model(base, config)\n"
    )
    assert not list(second_wraps(usage(code)))


@pytest.mark.parametrize(("epochs", "restarts"), [("3", True), ("1", False)])
def test_batch_number_of_lightning_restarts_with_each_epoch(epochs, restarts):
    code = f"""\
        class Module(LightningModule):
            def on_train_batch_end(self, outputs, batch, batch_idx):
                model.update_and_allocate(batch_idx)

        Trainer(max_epochs={epochs}).fit(Module())
        """
    found = step_counter(*allocation(code))
    assert (found.counts, found.restarts) == ("steps", restarts)


def test_expression_that_is_nested_too_deep_gets_no_finding():
    total = " + ".join(["step"] * 900)
    code = HEAD + LOOP.replace("allocate(step)", f"allocate({total})")
    deep = usage(code)
    assert unless_too_deep(list, StepRestarts().check_usage(deep)) is None


def test_call_that_is_reached_twice_has_one_fault():
    code = """\
        def allocate(step):
            model.update_and_allocate(step)

        for epoch in range(3):
            for i, batch in enumerate(loader):
                model(**batch).loss.backward()
                optimizer.step()
                allocate(i)
                allocate(i)
        """
    script = usage(HEAD + textwrap.dedent(code))
    assert len(list(script.events("allocate"))) > 1
    assert len(list(StepRestarts().check_usage(script))) == 1


@pytest.mark.parametrize(
    ("call", "allocates"),
    [("allocate_ranks(model, step)", None), ("evaluate(model, loader)", False)],
)
def test_function_of_another_file_may_allocate_by_its_name(call, allocates):
    imports = "from project.training import allocate_ranks, evaluate\n"
    code = LOOP.replace("model.update_and_allocate(step)", call)
    (training,) = usage(imports + HEAD + code).once(trainings)
    assert training.allocates is allocates


@pytest.mark.parametrize(("package", "hint"), [("adalora_core.", ".add_to("), ("", "state.global")])
def test_trainer_is_given_the_callback_of_the_package_that_is_imported(package, hint):
    trainer = "from transformers import Trainer\nTrainer(model).train()\n"
    code = HEAD.replace("from ", f"from {package}") + trainer
    (found,) = AllocationNeverCalled().check_usage(usage(code))
    assert hint in found.hint


@pytest.mark.parametrize(
    "hook",
    [
        "lambda *_: model.update_and_allocate(next(done))",
        "hook=lambda *_: model.update_and_allocate(next(done))",
    ],
)
def test_lambda_that_allocates_and_is_handed_on_may_be_called(hook):
    code = f"optimizer.register_step_post_hook({hook})\n"
    code += LOOP.replace("        model.update_and_allocate(step)\n", "")
    (training,) = usage(HEAD + code).once(trainings)
    assert training.allocates is None


@pytest.mark.parametrize(
    ("start", "after", "restarts"),
    [
        ("start=first", "first = i + 1", False),
        ("first", "first += len(loader)", False),
        ("start=0", "first = i + 1", True),
    ],
)
def test_count_goes_on_from_a_start_that_the_outer_loop_moves(start, after, restarts):
    code = LOOP.replace("allocate(step)", "allocate(i)").replace("step = 0", "first = 0")
    code = code.replace("enumerate(loader)", f"enumerate(loader, {start})")
    code = code.replace("        step += 1\n", f"    {after}\n")
    assert step_counter(*allocation(code)).restarts is restarts
