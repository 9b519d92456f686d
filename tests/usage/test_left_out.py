"""Judge schedules that leave a phase out, totals of another unit, and what is not trained."""

from __future__ import annotations

import pytest
from usage_texts import codes

from adalora_core.checker.rules.usage_base import CALLBACK, EPOCHS, HEAD, LOOP, example

TOTAL = "total = len(loader) * 3\n"


def scheduled(tinit: str, tfinal: str, total: str = "total", before: str = TOTAL) -> str:
    """A script with a schedule whose length only a run can tell."""
    head = HEAD.replace("\nconfig", f"\n{before}config").replace(
        "total_step=1000", f"total_step={total}"
    )
    return head.replace("tinit=200", f"tinit={tinit}").replace("tfinal=200", f"tfinal={tfinal}")


@pytest.mark.parametrize(
    ("condition", "is_fault"),
    [
        ("step < config.total_step - config.tfinal", True),
        ("step <= total - tfinal", True),
        ("TINIT < step < config.total_step - config.tfinal", True),
        ("step > 200 and step < 800", True),
        ("200 < step < 1000", False),
        ("step < config.total_step", False),
        ("step % 2 == 0 or step < total - tfinal", False),
    ],
)
def test_call_that_ends_with_the_budgeting(condition, is_fault):
    loop = LOOP.replace("    model.base", f"    if {condition}:\n        model.base")
    assert ("ADA938" in codes(HEAD + loop)) is is_fault


@pytest.mark.parametrize(
    ("total", "is_fault"),
    [
        ("num_epochs", True),
        ("len(loader) * 3 * args.gradient_accumulation", True),
        ("len(loader) * 3 * batch_size", True),
        ("len(loader) * num_epochs", False),
        ("num_steps", False),
    ],
)
def test_total_of_another_unit(total, is_fault):
    text = scheduled("200", "200", total) + EPOCHS.replace("range(3)", "range(num_epochs)")
    assert ("ADA911" in codes(text)) is is_fault


SAMPLER = "loader = DataLoader(rows, sampler=DistributedSampler(rows))\n"
PREPARED = EPOCHS.replace(
    "step = 0", "model, loader = accelerator.prepare(model, loader)\nstep = 0"
)
STARTED = "# accelerate launch --num_processes 4 train.py\n"


@pytest.mark.parametrize(
    ("start", "before", "total", "loop", "is_fault"),
    [
        ("", SAMPLER, "len(rows) // size * 3", EPOCHS, True),
        ("", SAMPLER, "len(rows) // (size * world_size) * 3", EPOCHS, False),
        ("", SAMPLER, "len(loader) * 3", EPOCHS, False),
        (STARTED, "", "len(loader) * 3", PREPARED, True),
        (STARTED, "", "len(loader) * 3 // accelerator.num_processes", PREPARED, False),
        ("", "", "len(loader) * 3", PREPARED, False),  # nobody says how many there are
    ],
)
def test_total_of_all_processes(start, before, total, loop, is_fault):
    text = start + scheduled("200", "200", total, before) + loop
    assert ("ADA911" in codes(text)) is is_fault


@pytest.mark.parametrize(("value", "is_fault"), [("True", True), ("False", False), ("flag", False)])
def test_adapter_for_inference_that_is_trained(value, is_fault):
    text = HEAD.replace("init_r", f"inference_mode={value},\n    init_r") + LOOP
    assert ("ADA934" in codes(text)) is is_fault
    head = text.replace("\noptimizer", "\nmodel.score.requires_grad_(True)\noptimizer")
    assert ("ADA934" in codes(head)) is is_fault
    further = f'model.add_adapter("b", AdaLoraConfig(total_step=9, inference_mode={value}))\n'
    assert "ADA934" not in codes(HEAD + further + LOOP)


@pytest.mark.parametrize(
    ("held", "is_fault"),
    [
        ("model.classifier.parameters()", True),
        ("base.classifier.parameters()", False),
        ("model.base_model.parameters()", False),
        ("[*model.classifier.parameters(), *model.parameters()]", False),
    ],
)
def test_optimizer_that_holds_a_part_alone(held, is_fault):
    text = HEAD.replace("model.parameters()", held) + LOOP
    assert ("ADA936" in codes(text)) is is_fault


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (
            "model = model.merge_and_unload()\noptimizer = AdamW(model.parameters())\n" + LOOP,
            "ADA928",
        ),
        (LOOP + "whole = model.unload()\nwhole.save_pretrained('out')\n", "ADA933"),
        (LOOP + "model.save_pretrained('out')\nmodel.merge_and_unload()\n", None),
    ],
)
def test_what_is_left_after_a_merge(lines, code):
    assert codes(HEAD + lines) == ({code} if code else set())


def test_loss_of_a_trainer_by_another_name():
    own = (
        "\n\nclass Weighted(Trainer):\n    def compute_loss(self, model, inputs, **rest):\n"
        "        return F.cross_entropy(model(**inputs).logits, inputs['labels'])\n"
    )
    text = example(
        own + CALLBACK.replace("Trainer(model", "Weighted(model"),
        "from transformers import Trainer, TrainerCallback",
    )
    assert codes(text) == {"ADA910"}


@pytest.mark.parametrize(
    ("guard", "is_fault"),
    [("rank != 0", True), ("dist.get_rank() > 0", True), ("rank == 1", False)],
)
def test_other_processes_that_go_on_before_the_call(guard, is_fault):
    loop = LOOP.replace("    model.base", f"    if {guard}:\n        continue\n    model.base")
    assert ("ADA917" in codes(HEAD + loop)) is is_fault


def test_number_that_one_process_raises():
    loop = EPOCHS.replace("        step += 1", "        if rank == 0:\n            step += 1")
    assert codes(HEAD + loop) == {"ADA917"}


@pytest.mark.parametrize(
    ("model", "is_fault"),
    [
        ('AutoModel.from_pretrained("google/electra-small-discriminator")', True),
        ("GPTNeoXForCausalLM.from_pretrained(name)", True),
        ("LlamaForCausalLM.from_pretrained(name)", False),
        ("Qwen2ForSequenceClassification.from_pretrained(name)", False),
        ("AutoModelForCausalLM.from_pretrained(name)", False),
        ("MyModel.from_pretrained(name)", False),
        ('AutoModel.from_pretrained(["a"])', False),
    ],
)
def test_base_that_is_known_by_its_name_or_its_class(model, is_fault):
    text = HEAD.replace("\nconfig", f"\nbase = {model}\nconfig") + LOOP
    assert ("ADA921" in codes(text)) is is_fault


def test_call_that_returns_early_in_the_final_phase():
    loop = LOOP.replace(
        "    model.base", "    if step >= total - tfinal:\n        break\n    model.base"
    )
    assert "ADA938" in codes(HEAD + loop)


def test_object_that_a_function_is_given_has_the_values_of_its_class():
    text = (
        "from dataclasses import dataclass\nfrom peft import AdaLoraConfig\n\n\n@dataclass\n"
        "class Settings:\n    tinit: int = 400\n    tfinal: int = 500\n\n\n"
        "def make(cfg):\n    return AdaLoraConfig(tinit=cfg.tinit, tfinal=cfg.tfinal, "
        'total_step=800, target_modules=["q_proj"])\n\n\n'
        "settings = Settings({given})\nmake({made})\n"
    )
    assert "ADA202" in codes(text.format(given="", made="settings"))
    assert "ADA202" in codes(text.format(given="", made="Settings()"))
    assert "ADA202" not in codes(text.format(given="", made="Settings(tinit=9)"))
    assert "ADA202" not in codes(text.format(given="tfinal=100", made="settings"))
    assert "ADA202" not in codes(text.format(given="", made="other"))
    assert "ADA202" not in codes(text.format(given="", made="settings") + "make(settings)\n")
    changed = text.format(given="", made="settings").replace(
        "\nmake(", "\nsettings.tinit = 1\nmake("
    )
    assert "ADA202" not in codes(changed)


def test_hooks_that_are_called_one_by_one_belong_to_one_step():
    loop = EPOCHS.replace(
        "        model.base_model.update_and_allocate(step)\n",
        "        for hook in hooks:\n            model.base_model.update_and_allocate(step)\n",
    )
    assert codes(HEAD + loop) == set()


def test_model_that_is_wrapped_in_the_first_round_only_is_not_wrapped_twice():
    first = "base = load()\nmodel = None\nfor name in names:\n    if model is None:\n"
    text = HEAD.partition("model = ")[0] + first + "        model = get_peft_model(base, config)\n"
    assert "ADA914" not in codes(text + "    else:\n        model.set_adapter(name)\n")
    assert "ADA914" in codes(text.replace("    if model is None:\n    ", ""))
