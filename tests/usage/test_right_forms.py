"""Right scripts in forms that were once reported wrongly, some beside a fault of the same form."""

from __future__ import annotations

import textwrap

import pytest
from usage_texts import codes

from adalora_core.checker.check import check_config
from adalora_core.checker.rules.usage_base import CALLBACK, HEAD, LOOP, example

CALL = "    model.base_model.update_and_allocate(step)\n"
IMPORTED = "from transformers import Trainer, TrainerCallback"


@pytest.mark.parametrize("step", ["len(losses)", "len(seen) - 1", 'len(history["loss"])'])
def test_length_of_a_list_that_grows_counts_steps(step):
    grows = "    losses.append(1)\n    seen.add(step)\n    history['loss'].append(1)\n"
    loop = LOOP.replace(CALL, grows + CALL)
    text = f"{HEAD}losses, seen, history = [], set(), {{'loss': []}}\n{loop}"
    assert codes(text.replace("update_and_allocate(step)", f"update_and_allocate({step})")) == set()
    assert "ADA902" in codes(HEAD + LOOP.replace("allocate(step)", "allocate(len(loader))"))


@pytest.mark.parametrize("held", ["enc.body", 'models["student"]'])
def test_attribute_or_entry_that_is_wrapped_has_the_method(held):
    head = HEAD.replace("\nmodel = get_peft_model(base, config)", "").replace(
        "model.parameters()", f"{held}.parameters()"
    )
    made = (
        "base = AutoModel.from_pretrained(name)\nenc = Encoder()\nenc.body = base\n"
        f"models = {{'student': base}}\n{held} = get_peft_model({held}, config)\noptimizer"
    )
    loop = LOOP.replace("model.base_model", f"{held}.base_model").replace("model(", f"{held}(")
    assert codes(head.replace("optimizer", made, 1) + loop) == set()


SECOND = 'model.add_adapter("b", AdaLoraConfig(target_modules=["q_proj"], total_step=2000))\n'


@pytest.mark.parametrize(
    ("around", "is_fault"),
    [
        ("if True:\n    {}", True),
        ("with pytest.raises(ValueError):\n    {}", False),
        ("try:\n    {}except ValueError:\n    print('one')\n", False),
        ("try:\n    {}except KeyError:\n    print('one')\n", True),
        ("if False:\n    {}", False),
    ],
)
def test_error_that_a_script_expects_or_never_reaches(around, is_fault):
    assert ("ADA925" in codes(f"import pytest\n{HEAD}{around.format(SECOND)}")) is is_fault


def test_error_in_a_function_that_nobody_calls_is_no_error():
    text = f"{HEAD}def second(model):\n    model = get_peft_model(base, config)\n    {SECOND}"
    for called, severity in (("", "info"), ("second(model)\n", "error")):
        found = check_config(text + called, format="python").diagnostics
        assert {e.severity for e in found if e.code == "ADA925"} == {severity}


@pytest.mark.parametrize(
    ("tasks", "is_fault"),
    [
        ("['a', 'b']", False),
        ("load_dataset('x')", True),
        ("[row for row in rows]", True),
        ("[rows[i : i + 8] for i in range(0, 80, 8)]", False),
    ],
)
def test_number_of_tasks_is_not_one_of_samples(tasks, is_fault):
    text = f"TASKS = {tasks}\n" + HEAD.replace("total_step=1000", "total_step=len(TASKS) * 500")
    assert ("ADA911" in codes(text + LOOP)) is is_fault


def test_callback_that_a_class_of_trainer_defines_and_adds():
    callback, trained = CALLBACK.split("Trainer(model", 1)
    lines = f"def __init__(self, **given):\n{textwrap.indent(callback.strip(), '    ')}\n"
    own = textwrap.indent(f"{lines}\n    self.add_callback(Allocate())\n", "    ")
    trained = trained.replace(", callbacks=[Allocate()]", "")
    text = f"class Own(Trainer):\n{own}\n\nOwn(model{trained}"
    assert codes(example(text, IMPORTED)) == set()
    assert codes(example(text.replace("update_and_allocate", "print"), IMPORTED)) == {"ADA901"}


def test_round_that_is_trained_several_times_is_not_the_run():
    body = textwrap.indent(LOOP.replace("enumerate(batches)", "zip(range(50), batches)"), "    ")
    function = f"def local_round(model, optimizer):\n{body}\n\n"
    text = f"{function}{HEAD}for r in range(20):\n    local_round(model, optimizer)\n"
    assert "ADA912" not in codes(f"{text}model.save_pretrained('out')\n")


def test_hook_of_lightning_that_waits_for_the_next_step():
    hook = (
        "class Lit(LightningModule):\n    def __init__(self):\n"
        "        self.net, self._last = model, 0\n"
        "    def on_train_batch_end(self, *args):\n        if self.global_step != self._last:\n"
        "            self._last = self.global_step\n"
        "            self.net.base_model.update_and_allocate(self.global_step)\n\n\n"
        "Trainer(accumulate_grad_batches=4).fit(Lit())\n"
    )
    text = HEAD.replace("\n\n", "\nfrom lightning import LightningModule, Trainer\n\n", 1) + hook
    assert codes(text) == set()
    guard = (
        "        if self.global_step != self._last:\n            self._last = self.global_step\n"
    )
    assert codes(text.replace(guard, "        if True:\n")) == {"ADA905"}


@pytest.mark.parametrize(
    "loop",
    [
        LOOP.replace(CALL, "    [each(step) for each in hooks]\n").replace(
            "for step",
            "hooks = []\nmodel = model.base_model\n"
            "hooks.append(getattr(model, 'update_and_allocate', None))\nfor step",
        ),
        "def steps():\n"
        + textwrap.indent(LOOP.replace(CALL, "    yield step\n"), "    ")
        + "\n\nfor step in steps():\n"
        + CALL,
    ],
)
def test_call_that_goes_through_a_list_of_hooks_or_a_generator(loop):
    assert "ADA901" not in codes(HEAD + loop)


def test_optimizer_that_allocates_in_its_own_step():
    own = (
        "class Own(AdamW):\n    def step(self, closure=None):\n        super().step(closure)\n"
        "        self.tuner.update_and_allocate(self.done)\n\n\n"
    )
    trainer = "Trainer(model=model, optimizers=(Own(model), None)).train()\n"
    assert codes(example(own + trainer, IMPORTED)) == set()
    assert "ADA901" in codes(example(own + trainer.replace("Own(", "AdamW("), IMPORTED))


def test_loaded_adapter_of_another_object_of_the_same_class():
    text = (
        "from peft import LoraConfig, PeftModel, get_peft_model\n"
        "class Net:\n    def __init__(self, encoder):\n        self.encoder = encoder\n\n"
        "def train():\n    net = Net(get_peft_model(base, LoraConfig(target_modules=['q_proj'])))\n"
        "    optimizer = AdamW(net.encoder.parameters())\n    for batch in loader:\n"
        "        net.encoder(**batch).loss.backward()\n        optimizer.step()\n\n"
        "def predict():\n    return Net(PeftModel.from_pretrained(base, 'out'))\n\n"
        "train()\npredict()\n"
    )
    assert codes(text) == set()
    frozen = text.replace("get_peft_model(base, LoraConfig(target_modules=['q_proj']))", "load()")
    assert codes(frozen.replace("load()", "PeftModel.from_pretrained(base, 'in')")) == {"ADA955"}


def test_one_finding_for_one_slip():
    wrapped = HEAD.replace("optimizer =", "model = DDP(model)\noptimizer =")
    asked = LOOP.replace(
        "    model.base_m", '    if hasattr(model, "update_and_allocate"):\n        model.base_m'
    )
    assert codes(wrapped + asked) == {"ADA941"}


def test_callback_is_asked_for_the_parameter_it_is_given():
    text = CALLBACK.replace("def on_optimizer_step", "def on_post_optimizer_step")
    assert codes(example(text, IMPORTED)) == {"ADA908"}
    called = text.replace(
        "class Allocate(TrainerCallback):\n",
        "class Allocate(TrainerCallback):\n"
        "    def on_optimizer_step(self, args, state, control, model=None, **kwargs):\n"
        "        self.on_post_optimizer_step(args, state, control, model)\n\n",
    )
    assert codes(example(called, IMPORTED)) == set()


@pytest.mark.parametrize(
    ("steps", "loop", "is_fault"),
    [
        ("8", LOOP, True),
        ("1", LOOP, False),
        (
            "8",
            LOOP.replace("    optimizer.step", "    # DeepSpeed does\n    optimizer.step"),
            False,
        ),
        ("8", LOOP.replace(CALL, f"    if step % 8 == 7:\n    {CALL}"), False),
    ],
)
def test_accumulation_that_accelerator_is_given_and_nobody_uses(steps, loop, is_fault):
    head = HEAD.replace("\n\n", "\nfrom accelerate import Accelerator\n\n", 1)
    text = f"{head}accelerator = Accelerator(gradient_accumulation_steps={steps})\n{loop}"
    assert ("ADA905" in codes(text)) is is_fault


@pytest.mark.parametrize(
    ("held", "is_fault"),
    [
        ("net.encoder.parameters()", True),
        ("net.parameters()", False),
        ("[*net.encoder.parameters(), *net.head.parameters()]", False),
    ],
)
def test_optimizer_without_the_new_layer_of_a_class(held, is_fault):
    net = (
        "class Net(nn.Module):\n    def __init__(self, encoder):\n"
        "        self.encoder, self.head = encoder, nn.Linear(8, 2)\n\n\n"
    )
    made = f"net = Net(model)\noptimizer = AdamW({held})"
    text = net + HEAD.replace("optimizer = AdamW(model.parameters())", made)
    assert ("ADA936" in codes(text + LOOP)) is is_fault


@pytest.mark.parametrize("given", ["base", "model.base_model.model"])
def test_base_that_has_another_name(given):
    head = HEAD.replace("\nconfig", "\nbase = AutoModel.from_pretrained(name)\nconfig")
    loop = LOOP.replace("model.base_model.update", "inner.update")
    assert codes(f"{head}inner = {given}\n{loop}") == {"ADA929"}


def test_base_that_a_function_wraps_in_each_round():
    run = "def run(base):\n    return get_peft_model(base, config)\n\n\n"
    rounds = "for seed in range(3):\n    run(base)\n"
    head = HEAD.partition("model = ")[0] + run
    assert codes(f"{head}base = load()\n{rounds}") == {"ADA914"}
    assert codes(head + rounds.replace("(base)", "(load())")) == set()


@pytest.mark.parametrize(
    ("targets", "code"),
    [
        ('"blocks.[0-9].to_key"', "ADA508"),
        ('"to_key|to_value"', "ADA508"),
        ('"^to_k"', "ADA508"),
        ('"to_key"', "ADA504"),
        ('["zetas"]', "ADA510"),
    ],
)
def test_target_that_is_a_layer_of_the_scripts_own_model(targets, code):
    head = HEAD.replace('["q_proj", "v_proj"]', targets)
    own = "class Net(nn.Module):\n    def __init__(self):\n        self.to_key = self.zetas = 1\n"
    assert codes(head + LOOP) == {code}
    is_prefix = targets == '"^to_k"'  # which matches no name whole
    assert codes(own + head + LOOP) == ({code} if is_prefix else set())


def test_loop_over_the_models_of_one_step_that_allocates_in_each():
    loop = LOOP.replace(CALL, "    for model in models:\n    " + CALL)
    text = HEAD.replace(
        "model = get_peft_model(base, config)", "models = [get_peft_model(base, config)]"
    )
    assert codes(text.replace("model.parameters()", "models[0].parameters()") + loop) == set()


def test_script_that_loads_an_adapter_and_merges_it_needs_no_configuration():
    text = (
        "from peft import PeftModel\nPeftModel.from_pretrained(base, folder).merge_and_unload()\n"
    )
    assert codes(text) == set()
    assert codes(text.replace("peft import", "other import")) == {"ADA006"}


def test_function_that_is_given_several_ranges_counts_on():
    train = f"def train(model, steps):\n{textwrap.indent(LOOP, '    ')}\n\n".replace(
        "for step, batch in enumerate(batches)", "for step in steps"
    )
    calls = "for part in range(3):\n    train(model, range(5))\n    train(model, range(5, 9))\n"
    assert "ADA904" not in codes(HEAD + train + calls)
    assert "ADA904" in codes(HEAD + train + calls.replace("    train(model, range(5, 9))\n", ""))


def test_loop_over_models_whose_steps_a_function_makes():
    step = f"def one(net, step):\n{LOOP.partition(chr(10))[2]}\n\n".replace("model", "net")
    rounds = "for each in models:\n    for step in range(9):\n        one(each, step)\n"
    assert "ADA904" not in codes(HEAD + step + rounds)
    assert "ADA904" in codes(HEAD + step + rounds.replace("one(each", "one(model"))


SETUP = HEAD.partition("model = ")[0]
WRAP = "{0} = get_peft_model({0}, config)\n"
MAKE = """\
def make(model, folder):
    if folder:
        model = PeftModel.from_pretrained(model, folder)
"""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (
            "one = encoder()\ntwo = decoder()\nfor model, name in [(one, 1), (two, 2)]:\n    "
            + WRAP.format("model"),
            "model = encoder()\nfor other in range(2):\n    " + WRAP.format("model"),
        ),
        (
            f"{MAKE}    if folder is None:\n        {WRAP.format('model')}",
            f"{MAKE}    {WRAP.format('model')}",
        ),
        (
            2 * f"with seeded():\n    model = load()\n{WRAP.format('model')}",
            f"with seeded():\n    model = load()\n{2 * WRAP.format('model')}",
        ),
    ],
    ids=["each-of-two-models", "one-or-the-other", "loaded-anew"],
)
def test_model_is_wrapped_once_on_each_way(right, wrong):
    head = SETUP.replace("import", "import PeftModel,", 1)
    assert "ADA914" not in codes(head + right)
    assert "ADA914" in codes(head + wrong)


def test_base_that_is_saved_beside_its_adapter_has_lost_nothing():
    saved = 'model.unload().save_pretrained("base")\n'
    assert codes(HEAD + LOOP + saved) == {"ADA933"}
    assert codes(f'{HEAD}{LOOP}model.save_pretrained("adapter")\n{saved}') == set()


def test_allocation_of_another_method_is_not_judged():
    text = HEAD.replace("AdaLora", "Adamss") + LOOP.replace(CALL, "") + CALL
    assert codes(text) == set()
    assert codes(text.replace("AdamssConfig", "make_config")) != set()
