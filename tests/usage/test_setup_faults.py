"""Judge small scripts with one slip, each beside scripts that are like it and right."""

from __future__ import annotations

import pytest
from usage_texts import codes

from adalora_core.checker.rules.usage_base import EPOCHS, HEAD, LOOP

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
    assert ("ADA920" in codes(f"base.requires_grad_(True)\n{text}")) is is_fault
    assert "ADA920" not in codes(head)
    assert ("ADA920" in codes(f"# AdaLoRA\n{head}Trainer(model).train()\n")) is is_fault


@pytest.mark.parametrize(("asked", "is_fault"), [("args.resume", True), ("args.merge", False)])
def test_adapter_that_is_loaded_to_go_on_is_trained(asked, is_fault):
    load = '    model = PeftModel.from_pretrained(base, "a")\n'
    made = f"if {asked}:\n{load}else:\n    model = get_peft_model(base, config)\n"
    text = HEAD.replace("model = get_peft_model(base, config)\n", made)
    text = text.replace("import ", "import PeftModel, ", 1) + LOOP
    assert codes(text) == ({"ADA920"} if is_fault else set())
    load, other = "PeftModel.from_pretrained(base, 'a')", "get_peft_model(base, config)"
    function = (
        f"def load():\n    if {asked}:\n        return {load}, 1\n    return {other}, 0\n\n\n"
    )
    function += "model, start = load()\n"
    assert codes(text.replace(made, function)) == ({"ADA920"} if is_fault else set())
    assert codes(text.replace('"a"', '"a", is_trainable=True')) == set()


EVALUATION = "def evaluate(net):\n    net.eval()\n\n\n"


@pytest.mark.parametrize(
    ("inside", "is_fault"),
    [
        ("if step % 100 == 0:\n            evaluate(model)", True),
        ("if step % 100 == 0:\n            evaluate(model)\n            model.train()", False),
        ("if step == last:\n            evaluate(model)\n            break", False),
        ("evaluate(teacher)", False),
        ("model.train()\n        evaluate(model)", False),
    ],
)
def test_model_that_a_loop_leaves_in_evaluation_mode(inside, is_fault):
    text = EVALUATION + HEAD + EPOCHS.replace("step += 1", f"step += 1\n        {inside}")
    assert codes(text) == ({"ADA934"} if is_fault else set())
    assert codes(text.replace("    for batch", "    model.train()\n    for batch")) == codes(text)
    trained = text.replace("        model(**", "        model.train()\n        model(**")
    assert codes(trained) == set()


def test_evaluation_after_the_last_epoch_leaves_nothing():
    text = HEAD + EPOCHS + "    model.eval()\n"
    assert codes(text) == {"ADA934"}
    assert codes(text.replace("range(3)", "range(1)")) == set()
    assert codes(text.replace("    model.eval", "model.eval")) == set()
    plain = text.replace("from peft", "from transformers import AutoModelForCausalLM\nfrom peft")
    assert codes(plain) == set()  # most have no dropout, and the adapter has none here


@pytest.mark.parametrize(
    ("base", "is_fault"),
    [('"gpt2"', True), ("name", True), ('"facebook/opt-350m"', False), ("sys.argv[1]", False)],
)
def test_base_that_a_script_loads_without_the_targets(base, is_fault):
    loaded = f'name = "bigscience/bloom-560m"\nbase = AutoModel.from_pretrained({base})\n'
    assert ("ADA921" in codes(HEAD.replace("config =", f"{loaded}config =") + LOOP)) is is_fault


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
    assert codes(f"{other}AdaLoraConfig\n") == {"ADA104"}  # LoraConfig has no such arguments
    open_ = text.replace('["ada"]', "[args.kind]").replace("= AdaLora", "= args.kind or AdaLora")
    assert name == "Kind" or codes(open_.replace("tfinal=200", "tfinal=900")) == set()
