"""Judge calls on the wrong object, frozen factors, second calls, and what is saved."""

from __future__ import annotations

import pytest
from usage_texts import codes

from adalora_core.checker.rules.usage_base import CALLBACK, EPOCHS, HEAD, LOOP, example

LOADED = HEAD.replace("\nconfig", "\nbase = AutoModelForCausalLM.from_pretrained(name)\nconfig")
PARALLEL = "from torch.nn.parallel import DistributedDataParallel as DDP\n" + HEAD.replace(
    "optimizer =", "model = DDP(model)\noptimizer ="
)


@pytest.mark.parametrize(
    ("head", "called", "is_fault"),
    [
        (LOADED, "base", True),
        (LOADED, "model.base_model.model", True),
        (LOADED, "model.get_base_model()", True),
        (LOADED.replace("model = get", "get"), "base.base_model", True),
        (LOADED.replace("model = get", "base = get"), "base", False),
        (LOADED, "model", False),
        (HEAD, "other.model", False),
        (PARALLEL, "model.base_model", True),
        (PARALLEL, "model.module", False),
        (PARALLEL, "accelerator.unwrap_model(model)", False),
        (PARALLEL.replace("DDP(model)", "DDP(model) if many else model"), "model", False),
        (LOADED.replace("from peft", "from adalora_core.peft"), "base", False),
    ],
)
def test_object_without_the_method(head, called, is_fault):
    text = head + LOOP.replace("model.base_model.update", f"{called}.update")
    assert ("ADA929" in codes(text)) is is_fault


@pytest.mark.parametrize(
    ("head", "given", "is_fault"),
    [
        (LOADED, "base", True),
        (LOADED, "model", False),
        (HEAD, "base", False),  # nobody knows what it is
        (
            LOADED.replace("model = get_peft_model(base, config)\n", "model = base\n"),
            "model",
            False,
        ),
    ],
)
def test_trainer_that_is_given_the_base(head, given, is_fault):
    trainer = CALLBACK.replace("Trainer(model=model", f"Trainer(model={given}")
    imported = "from transformers import Trainer, TrainerCallback\n"
    assert ("ADA930" in codes(imported + head + trainer)) is is_fault


@pytest.mark.parametrize(
    ("before", "after", "is_fault"),
    [
        ("", "trainer.train()\n", True),
        ("trainer.train()\n", "", False),
        ("trainer.evaluate()\n", "Trainer(model=model, callbacks=[Allocate()]).train()\n", False),
    ],
)
def test_trainer_of_the_base_that_the_adapter_comes_after(before, after, is_fault):
    made = CALLBACK.replace("Trainer(model=model", "trainer = Trainer(model=base")
    callback = made.replace(".train()", f"\n{before}")
    text = LOADED.replace("\nmodel = ", f"\n{callback}model = ") + after
    assert (
        "ADA930" in codes("from transformers import Trainer, TrainerCallback\n" + text)
    ) is is_fault


CALL = "    model.base_model.update_and_allocate(step)\n"


NAMED = "for n, p in model.named_parameters():\n"
TRAINED = "        p.requires_grad = True\n"


@pytest.mark.parametrize(
    ("loop", "is_fault"),
    [
        ("for p in model.parameters():\n    p.requires_grad = False\n", True),
        ('for n, p in model.named_parameters():\n    p.requires_grad = "lora_A" in n\n', True),
        ('for n, p in model.named_parameters():\n    p.requires_grad = "lora_" in n\n', False),
        ("for p in base.parameters():\n    p.requires_grad = False\n", False),
        (f'{NAMED}    p.requires_grad = False\n    if "lora" in n:\n{TRAINED}', False),
    ],
)
def test_factors_that_are_frozen_after_the_adapter_is_added(loop, is_fault):
    assert ("ADA932" in codes(LOADED + loop + LOOP)) is is_fault


def test_model_that_is_frozen_before_the_adapter_is_added_is_right():
    frozen = "for p in base.parameters():\n    p.requires_grad = False\n"
    text = LOADED.replace("config = A", f"{frozen}config = A")
    assert "ADA932" not in codes(text + LOOP)
    unfrozen = LOADED.replace("config = A", "base.requires_grad_(True)\nconfig = A")
    later = frozen.replace("base", "model")
    assert "ADA932" in codes(unfrozen + later + LOOP)


@pytest.mark.parametrize(
    ("saves", "is_fault"),
    [
        ("model.base_model.model.save_pretrained('out')", True),
        ("base.save_pretrained('out')", True),
        ("model.save_pretrained('out')", False),
        ("base.save_pretrained('out')\nmodel.save_pretrained('adapter')", False),
        ("model.merge_and_unload().save_pretrained('out')", False),
        ("tokenizer.save_pretrained('out')", False),
    ],
)
def test_base_that_is_saved_in_place_of_the_adapter(saves, is_fault):
    assert ("ADA933" in codes(f"{LOADED}{EPOCHS}{saves}\n")) is is_fault


def test_call_without_the_step():
    assert codes(HEAD + LOOP.replace("(step)", "()")) == {"ADA902"}


@pytest.mark.parametrize(
    ("before", "condition", "is_fault"),
    [
        ("", "isinstance(model, AdaLoraModel)", True),
        ("", "isinstance(model.base_model, AdaLoraModel)", False),
        ("", "isinstance(model, PeftModel)", False),
        ("model = DDP(model)\n", 'hasattr(model, "update_and_allocate")', True),
        ("", 'hasattr(model, "update_and_allocate")', False),
    ],
)
def test_condition_that_the_model_never_meets(before, condition, is_fault):
    loop = LOOP.replace("    model.base", f"    if {condition}:\n        model.module.base")
    assert ("ADA941" in codes(HEAD + before + loop)) is is_fault


@pytest.mark.parametrize(
    ("callback", "is_fault"), [("Allocate(base)", True), ("Allocate(None)", False)]
)
def test_callback_that_holds_the_model_of_before(callback, is_fault):
    own = (
        "\n\nclass Allocate(TrainerCallback):\n    def __init__(self, model):\n"
        "        self.model = model\n\n"
        "    def on_optimizer_step(self, args, state, control, **rest):\n"
        "        self.model.base_model.update_and_allocate(state.global_step)\n\n\n"
        f"SFTTrainer(model=base, peft_config=config, callbacks=[{callback}]).train()\n"
    )
    head = LOADED.partition("model = get_peft_model")[0]
    text = "from transformers import TrainerCallback\nfrom trl import SFTTrainer\n" + head + own
    assert ("ADA929" in codes(text)) is is_fault


def test_function_of_accelerate_that_runs_on_one_process():
    text = "@accelerator.on_main_process\ndef allocate(step):\n" + CALL + "\n\n"
    assert codes(HEAD + text + LOOP.replace(CALL, "    allocate(step)\n")) == {"ADA917"}


def test_adapter_that_is_merged_for_an_evaluation_and_not_taken_out_again():
    merged = "    model.merge_adapter()\n    evaluate()\n"
    assert "ADA928" in codes(HEAD + EPOCHS + merged)
    assert "ADA928" not in codes(HEAD + EPOCHS + merged + "    model.unmerge_adapter()\n")


def test_preparation_that_freezes_what_was_added():
    text = HEAD + "model = prepare_model_for_kbit_training(model)\n" + LOOP
    head = "from peft import prepare_model_for_kbit_training\n"
    assert "ADA932" in codes(head + text)
    assert "ADA932" not in codes(text)  # a function of somebody's own
    before = head + HEAD.replace(
        "model = get", "base = prepare_model_for_kbit_training(base)\nmodel = get"
    )
    assert "ADA932" not in codes(before + LOOP)


def test_label_smoothing_leaves_the_penalty_out():
    imported = "from transformers import Trainer, TrainerCallback"
    smoothed = CALLBACK.replace("model=model, train", "model=model, args=args, train")
    smoothed = f"\nargs = TrainingArguments('out', label_smoothing_factor=0.1)\n{smoothed}"
    assert codes(example(smoothed, imported)) == {"ADA910"}


def test_wrapper_that_a_function_or_an_object_is_given():
    train = "def train(model):\n" + "".join(f"    {line}\n" for line in LOOP.splitlines())
    wrapped = HEAD + train + "\n\nwhole = DDP(model)\ntrain(whole)\n"
    assert "ADA929" in codes(wrapped)
    assert "ADA929" not in codes(wrapped.replace("train(whole)", "train(model)"))
    assert "ADA929" not in codes(wrapped + "train(model)\n")
    body = "".join(
        f"        {line}\n" for line in LOOP.replace("model.base", "self.m.base").splitlines()
    )
    job = "class Job:\n    def __init__(self):\n        self.m = model\n        self.m = {}\n"
    text = HEAD + job + f"\n    def run(self):\n{body}\n\nJob().run()\n"
    assert "ADA929" in codes(text.format("DDP(self.m)"))
    assert "ADA929" not in codes(text.format("self.m.to(device)"))


def test_number_that_a_function_raises_for_itself():
    step = (
        "def step(n):\n" + LOOP.replace("(step)", "(n)").partition("\n")[2] + "    n += 1\n{}\n\n"
    )
    loop = "n = 0\nfor batch in batches:\n    {}step(n)\n"
    assert codes(HEAD + step.format("") + loop.format("")) == {"ADA902"}
    assert codes(HEAD + step.format("    return n") + loop.format("n = ")) == set()
