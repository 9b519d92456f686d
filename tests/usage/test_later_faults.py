"""Judge runs that go on, merge, count in vain, or hand the allocation to others."""

from __future__ import annotations

import pytest
from usage_texts import codes

from adalora_core.checker.rules.usage_base import CALLBACK, EPOCHS, HEAD, LOOP, example


@pytest.mark.parametrize(
    ("after", "is_fault"),
    [
        ("    score(model)\n", True),
        ("    score(copy.deepcopy(model))\n", False),
        ("    if epoch == 2:\n        score(model)\n", False),
        ("score(model)\n", False),
    ],
)
def test_adapter_that_is_merged_while_it_is_trained(after, is_fault):
    score = "def score(net):\n    return evaluate(net.merge_and_unload())\n\n\n"
    assert ("ADA928" in codes(f"import copy\n{HEAD}{score}{EPOCHS}{after}")) is is_fault


@pytest.mark.parametrize("made", ["model = get_peft_model(load(), config)\n", ""])
def test_model_of_each_run_may_be_merged_after_it(made):
    loop = "".join(f"    {line}\n" for line in EPOCHS.splitlines())
    text = (
        f"{HEAD}for seed in range(3):\n    {made or 'pass'}\n{loop}    model.merge_and_unload()\n"
    )
    assert ("ADA928" in codes(text)) is not made


@pytest.mark.parametrize(
    ("total", "max_steps", "is_fault"),
    [
        ("3 * len(rows) // 16", "max_steps=4000", True),
        ("min(4000, 3 * len(rows) // 16)", "max_steps=4000", False),
        ("3 * len(rows) // 16", "max_steps=-1", False),
        ("3 * len(rows) // 16", "max_steps=args.max_steps", False),
        ("args.total", "max_steps=4000", False),
    ],
)
def test_epochs_that_max_steps_overrides(total, max_steps, is_fault):
    text = example(
        CALLBACK.replace("model=model, train", "model=model, args=settings, train"),
        "from transformers import Trainer, TrainerCallback, TrainingArguments",
    )
    text = text.replace("total_step=1000", f"total_step={total}").replace(
        "\n\n\nclass", f"\nsettings = TrainingArguments('out', {max_steps})\n\n\nclass"
    )
    assert ("ADA912" in codes(text)) is is_fault


HOOK = """\
def hook(optimizer, args, kwargs):
    model.base_model.update_and_allocate(next(counter))


optimizer.{register}(hook)
"""


@pytest.mark.parametrize(
    ("register", "is_fault"),
    [("register_step_pre_hook", True), ("register_step_post_hook", False)],
)
def test_hook_of_the_optimizer_runs_after_the_step(register, is_fault):
    loop = LOOP.replace("    model.base_model.update_and_allocate(step)\n", "")
    text = HEAD + "counter = itertools.count()\n" + HOOK.format(register=register) + loop
    assert codes(text) == ({"ADA906"} if is_fault else set())


EVENTS = """\
class Events:
    def __init__(self):
        self.handlers = []

    def on(self, name):
        return self.handlers.append

    def emit(self):
        for each in self.handlers:
            each()


events = Events()


@{decorator}
def allocate():
    model.base_model.update_and_allocate(next(counter))


"""


@pytest.mark.parametrize(
    ("decorator", "is_known"), [("events.on('stepped')", True), ("torch.no_grad()", False)]
)
def test_function_that_an_object_of_the_script_registers_may_allocate(decorator, is_known):
    loop = LOOP.replace("    model.base_model.update_and_allocate(step)\n", "    events.emit()\n")
    assert ("ADA901" in codes(HEAD + EVENTS.format(decorator=decorator) + loop)) is not is_known


@pytest.mark.parametrize(
    ("rest", "is_fault"),
    [("", True), (' + [p for n, p in model.named_parameters() if "lora_E" in n]', False)],
)
def test_groups_that_a_function_makes(rest, is_fault):
    groups = (
        "def groups(model):\n    a, b = [], []\n"
        "    for name, p in model.named_parameters():\n"
        '        if "lora_A" in name:\n            a.append(p)\n'
        '        elif "lora_B" in name:\n            b.append(p)\n'
        f'    return [{{"params": a}}, {{"params": b{rest}}}]\n\n\n'
    )
    text = HEAD.replace("AdamW(model.parameters())", "AdamW(groups(model))")
    assert ("ADA919" in codes(groups + text + LOOP)) is is_fault


def test_base_that_a_trainer_is_given_by_its_name():
    text = example(
        CALLBACK.replace("Trainer(model=model,", "SFTTrainer('gpt2', peft_config=config,"),
        "from transformers import TrainerCallback",
        "from trl import SFTTrainer",
    ).replace("model = get_peft_model(base, config)\noptimizer = AdamW(model.parameters())\n", "")
    assert "ADA921" in codes(text)
