"""Judge small scripts with one slip, each beside scripts that are like it and right."""

from __future__ import annotations

import textwrap

import pytest
from usage_texts import codes

from adalora_core.checker.rules.usage_base import CALLBACK, EPOCHS, HEAD, LOOP, example


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


@pytest.mark.parametrize(
    ("method", "after", "is_fault"),
    [
        ("after_optimizer_step", "", True),
        ("on_optimizer_step", "", False),
        ("allocate", "Allocate().allocate(None, None, None, model)\n", False),
    ],
)
def test_method_of_a_callback_that_trainer_does_not_know(method, after, is_fault):
    script = CALLBACK.replace("on_optimizer_step", method) + after
    text = example(script, "from transformers import Trainer, TrainerCallback")
    assert ("ADA918" in codes(text)) is is_fault


LISTS = """\
named = list(model.named_parameters())
optimizer = AdamW([
    {"params": [p for n, p in named if "lora_A" in n]},
    {"params": [p for n, p in named if OTHERS]},
])
"""
BRANCHES = """\
a, b, rest = [], [], []
for n, p in model.named_parameters():
    if "lora_A" in n:
        a.append(p)
    elif OTHERS:
        b.append(p)
    else:
        rest.append(p)
optimizer = AdamW([{"params": a}, {"params": b}GIVEN])
"""


@pytest.mark.parametrize(
    ("groups", "others", "is_fault"),
    [
        (LISTS, '"lora_B" in n', True),
        (LISTS, '"lora_B" in n or "lora_E" in n', False),
        (LISTS, '"lora_A" not in n', False),
        (LISTS, 'any(w in n for w in ("lora_B", "lora_E"))', False),
        (BRANCHES.replace("GIVEN", ""), '"lora_B" in n', True),
        (BRANCHES.replace("GIVEN", ""), '"lora_" in n', False),
        (BRANCHES.replace("GIVEN", ', {"params": rest}'), '"lora_B" in n', False),
    ],
)
def test_groups_of_the_optimizer_by_names(groups, others, is_fault):
    text = HEAD.replace("optimizer = AdamW(model.parameters())\n", groups.replace("OTHERS", others))
    assert ("ADA919" in codes(text + LOOP)) is is_fault


@pytest.mark.parametrize(
    ("given", "after", "is_fault"),
    [
        ("", "", True),
        (", is_trainable=False", "", True),
        (", is_trainable=True", "", False),
        (", **settings", "", False),
        ("", "for p in model.parameters():\n    p.requires_grad = True\n", False),
    ],
)
def test_loaded_adapter_that_is_trained(given, after, is_fault):
    head = (
        f'from peft import PeftModel\nmodel = PeftModel.from_pretrained(base, "a"{given})\n{after}'
    )
    text = f"{head}optimizer = AdamW(model.parameters())\n{LOOP}"
    assert ("ADA920" in codes(text)) is is_fault
    assert "ADA920" not in codes(head)


@pytest.mark.parametrize(
    ("base", "is_fault"),
    [('"gpt2"', True), ("name", True), ('"facebook/opt-350m"', False), ("sys.argv[1]", False)],
)
def test_base_that_a_script_loads_without_the_targets(base, is_fault):
    loaded = f'name = "bigscience/bloom-560m"\nbase = AutoModel.from_pretrained({base})\n'
    assert ("ADA921" in codes(HEAD.replace("config =", f"{loaded}config =") + LOOP)) is is_fault


@pytest.mark.parametrize(
    ("decorator", "added", "is_fault"),
    [
        ("torch.no_grad()", "0.1 * extra(model)", True),
        ("torch.inference_mode()", "extra(model)", True),
        ("cache", "extra(model)", False),
    ],
)
def test_term_of_the_loss_without_a_gradient(decorator, added, is_fault):
    function = f"@{decorator}\ndef extra(model):\n    return model.norm()\n"
    for line in (f"loss = out.loss + {added}", f"loss = out.loss\n    loss += {added}"):
        body = f"    out = model(**batch)\n    {line}\n    loss.backward()\n"
        loop = LOOP.replace("    model(**batch).loss.backward()\n", body)
        assert ("ADA923" in codes(HEAD + function + loop)) is is_fault
    logged = LOOP + "    print(extra(model))\n"
    assert "ADA923" not in codes(HEAD + function + logged)


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


def test_schedule_that_a_model_is_given_later_is_not_judged():
    wrong = HEAD.replace("total_step=1000", "total_step=300")
    assert "ADA202" in codes(wrong + EPOCHS)
    for line in ('model.peft_config["default"].tinit = 10', "set_total_step(model, 900)"):
        assert "ADA202" not in codes(f"{wrong}{line}\n{EPOCHS}")


SECOND = 'model.add_adapter("b", AdaLoraConfig(target_modules=["q_proj"], total_step=2000{}))\n'
QUANTISED = 'base = AutoModel.from_pretrained("m", {})\n'


@pytest.mark.parametrize(
    ("before", "after", "is_fault"),
    [
        ("", SECOND.format(""), True),
        ("", SECOND.format(", inference_mode=True"), False),
        ("", 'model.delete_adapter("default")\n' + SECOND.format(""), False),
        ("", 'base.add_adapter("b", lora)\n', False),
        ("net.model.add_adapter(settings)\n", "net.model = get_peft_model(net.model, c)\n", False),
        ("", 'model.add_weighted_adapter(["a", "b"], [0.5, 0.5], "both")\n', True),
        (QUANTISED.format("load_in_4bit=True"), "model.merge_and_unload()\n", True),
        (
            QUANTISED.format("quantization_config=BitsAndBytesConfig(load_in_4bit=True)"),
            "model.merge_adapter()\n",
            True,
        ),
        (QUANTISED.format("torch_dtype=half"), "model.merge_and_unload()\n", False),
        (
            QUANTISED.format("load_in_4bit=True"),
            'PeftModel.from_pretrained(other, "saved").merge_and_unload()\n',
            False,
        ),
    ],
)
def test_call_that_adalora_in_peft_does_not_have(before, after, is_fault):
    text = HEAD.replace("config =", f"{before}config =") + after
    assert ("ADA925" in codes(text)) is is_fault
    ours = text.replace("from peft", "from adalora_core")
    assert "ADA925" not in codes(ours) or after.startswith("model = Dist")


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


MADE = HEAD.partition("model =")[0]
TRAIN = f"""\
def train(model):
    optimizer = AdamW(model.parameters())
{textwrap.indent(LOOP, "    ")}

"""
STAGE = """\
def stage(name, GIVEN):
    model = get_peft_model(load(name), config)
    train(model)


"""


WRAP = "model = get_peft_model(load(), config)\n"
ROUNDS = "for name in names:\n    model = get_peft_model(load(name), config)\n    train(model)\n"


@pytest.mark.parametrize(
    ("stages", "is_shared"),
    [
        (ROUNDS, True),
        (ROUNDS.replace("config", "copy(config)"), False),
        (STAGE.replace("GIVEN", "config") + 'stage("a", config)\nstage("b", config)\n', True),
        (STAGE.replace("GIVEN", "config") + 'stage("a", config)\n', False),
        (STAGE.replace(", GIVEN", "") + 'stage("a")\nstage("b")\n', True),
        (f"{WRAP}train(model)\n{WRAP}train(model)\n", True),
        (f"{WRAP}{WRAP}train(model)\n", False),
        (f"if big:\n    {WRAP}    train(model)\nelse:\n    {WRAP}    train(model)\n", False),
    ],
)
def test_configuration_of_two_trainings(stages, is_shared):
    assert ("ADA924" in codes(MADE + TRAIN + stages)) is is_shared


def test_configuration_that_each_round_makes_is_not_shared():
    body = MADE.partition("\n\n")[2] + "model = get_peft_model(load(name), config)\ntrain(model)\n"
    head = "from peft import AdaLoraConfig, get_peft_model\n"
    rounds = "for name in names:\n" + textwrap.indent(body, "    ")
    assert "ADA924" not in codes(head + TRAIN + rounds)
    function = "def stage(name):\n" + textwrap.indent(body, "    ") + "stage(1)\nstage(2)\n"
    assert "ADA924" not in codes(head + TRAIN + function)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("r=args.rank", {"ADA927"}),
        ("r=16", {"ADA303"}),
        ("r=args.rank, init_r=12", set()),
        ("r=args.rank, **ranks", set()),
    ],
)
def test_rank_that_is_given_as_r(given, expected):
    assert codes(HEAD.replace("init_r=12", given) + LOOP) == expected


@pytest.mark.parametrize(
    ("before", "name"),
    [
        ("Kind = AdaLoraConfig\n", "Kind"),
        ('kinds = {"lora": LoraConfig, "ada": AdaLoraConfig}\nKind = kinds["ada"]\n', "Kind"),
        ("import peft\n\nKind = peft.AdaLoraConfig\n", "Kind"),
        ('kinds = {"ada": AdaLoraConfig}\n', 'kinds["ada"]'),
    ],
)
def test_class_that_a_variable_holds_is_judged(before, name):
    text = HEAD.replace("config = AdaLoraConfig(", f"{before}config = {name}(")
    assert codes(text.replace("tfinal=200", "tfinal=900")) >= {"ADA202"}
    assert "ADA202" not in codes(text)
    other = text.replace("tfinal=200", "tfinal=900").replace("AdaLoraConfig", "LoraConfig")
    assert codes(f"{other}AdaLoraConfig\n") <= {"ADA006"}
    open_ = text.replace('["ada"]', "[args.kind]").replace("= AdaLora", "= args.kind or AdaLora")
    assert name == "Kind" or codes(open_.replace("tfinal=200", "tfinal=900")) == set()


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
