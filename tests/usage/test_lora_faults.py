"""Rules on plain LoRA: where each begins, what it leaves alone, and who is asked for AdaLoRA."""

from __future__ import annotations

import pytest
from contract_fixes import inspect

from adalora_core.checker.check import check_config

START = "from peft import LoraConfig, get_peft_model\n"
TRAIN = "\nmodel = get_peft_model(base, config)\nTrainer(model=model, train_dataset=rows).train()\n"
HEAD = "base = AutoModelForSequenceClassification.from_pretrained('bert-base-cased')\n"
TOKENS = """
tokenizer.{added}
base = AutoModelForCausalLM.from_pretrained("{model}")
{resized}.resize_token_embeddings(len(tokenizer))
"""


def _codes(text, form="yaml"):
    return {each.code: each.severity for each in inspect(text, form).report.diagnostics}


def _script(call, before='base = AutoModelForCausalLM.from_pretrained("gpt2")\n', after=TRAIN):
    return _codes(f"{START}{before}config = LoraConfig({call}){after}", "python")


def _loading(of, given):
    return f"base = AutoModelFor{of}.from_pretrained({given})\n"


@pytest.mark.parametrize(
    ("settings", "severity"),
    [
        ('base_model_name_or_path: gpt2, target_modules: ["c_attn", "q_proj"]', "warning"),
        ('base_model_name_or_path: gpt2, target_modules: ["c_attn", 5, [a]]', "warning"),
        (
            'base_model_name_or_path: gpt2, inference_mode: true, target_modules: ["c_fc", "q"]',
            "info",
        ),
        ('base_model_name_or_path: gpt2, target_modules: ["c_attn", "lm_head", "score"]', None),
        ('base_model_name_or_path: gpt2, target_modules: ["h.0.attn.c_attn", "wte"]', None),
        (
            'base_model_name_or_path: gpt2, target_modules: ["q_proj", "v_proj"]',
            {"ADA513": "error"},
        ),
        ('base_model_name_or_path: ./gpt2, target_modules: ["c_attn", "q_proj"]', None),
        ('base_model_name_or_path: microsoft/phi-2, target_modules: ["Wqkv", "fc1"]', None),
        ('base_model_name_or_path: google/flan-t5-xl, target_modules: ["q", "wi"]', "warning"),
        ('base_model_name_or_path: t5-small, target_modules: ["q", "wi"]', None),
        (
            'base_model_name_or_path: mixtral-8x7b-v0.1, target_modules: ["q_proj", "up_proj"]',
            "warning",
        ),
        ('base_model_name_or_path: mixtral-8x7b-v0.1, target_modules: ["q_proj", "w1"]', None),
        ('target_modules: ["c_attn", "q_proj"]', None),
        ('base_model_name_or_path: gpt2, target_modules: "c_attn"', {"ADA504": "error"}),
    ],
)
def test_target_that_the_named_model_lacks(settings, severity):
    found = _codes(f"{{peft_type: LORA, r: 8, lora_alpha: 16, {settings}}}")
    found.pop("ADA102", None)
    expected = severity if isinstance(severity, dict) else {"ADA951": severity}
    assert found == (expected if severity else {})


def test_targets_in_a_text_with_commas_are_judged_one_by_one():
    text = "finetuning_type: lora\nmodel_name_or_path: gpt2\nlora_target: c_attn,q_proj\n"
    (found,) = inspect(text, "yaml").report.diagnostics
    assert (found.code, found.pointer) == ("ADA951", "/lora_target/1")
    assert text[found.span.start : found.span.end] == "c_attn,q_proj"


@pytest.mark.parametrize(
    ("before", "call", "is_found"),
    [
        (
            _loading("SequenceClassification", "name, num_labels=3"),
            'target_modules=["query"]',
            True,
        ),
        (_loading("TokenClassification", '"bert-base-cased"'), "r=8", True),
        (_loading("ImageClassification", "name, id2label=names"), "bias='none'", True),
        (_loading("SequenceClassification", '"/models/bert"'), "r=8", False),
        (_loading("TokenClassification", '"somebody/bert-base-tags"'), "r=8", False),
        (_loading("TokenClassification", '"a/bert-base-NER", num_labels=9'), "r=8", False),
        (_loading("SequenceClassification", "name, num_labels=3"), 'task_type="SEQ_CLS"', False),
        (_loading("SequenceClassification", "name, num_labels=3"), "task_type=args.task", False),
        (_loading("SequenceClassification", "name, num_labels=3"), "**settings", False),
        (
            _loading("SequenceClassification", "name, num_labels=3"),
            "modules_to_save=['score']",
            False,
        ),
        (
            _loading("SequenceClassification", "name, num_labels=3"),
            "target_modules=['score']",
            False,
        ),
        (_loading("SequenceClassification", "name, num_labels=3"), "target_modules=names", False),
        (_loading("SequenceClassification", "'a/bert-finetuned-x', num_labels=3"), "r=8", False),
        (_loading("QuestionAnswering", "name"), "r=8", False),
        (_loading("SequenceClassification", '"bart-base"'), 'task_type="SEQ_CLS"', True),
        (_loading("SequenceClassification", '"t5-base"'), 'task_type="SEQ_CLS"', True),
        (_loading("TokenClassification", '"t5-base"'), 'task_type="TOKEN_CLS"', False),
        (_loading("SequenceClassification", '"bart-base"'), "modules_to_save=['head']", False),
        (_loading("SequenceClassification", '"bert-base-cased"'), "modules_to_save=['head']", True),
        (_loading("SequenceClassification", '"roberta-base"'), "modules_to_save=['dense']", False),
        (_loading("SequenceClassification", '"bert-base-cased"'), "modules_to_save=heads", False),
        (_loading("ImageClassification", "name, num_labels=3"), "modules_to_save=['head']", False),
    ],
)
def test_new_head_that_stays_frozen(before, call, is_found):
    assert _script(call, before) == ({"ADA952": "warning"} if is_found else {})


@pytest.mark.parametrize(
    ("inside", "call", "is_found"),
    [
        ("", 'target_modules=["query"]', True),
        ("", 'target_modules=["query"], task_type="TOKEN_CLS"', True),
        ("", 'target_modules=["query", "tags"]', False),
        ("", 'target_modules=["query"], modules_to_save=["tags"]', False),
        ("", 'target_modules=r".*(query|tags)"', False),
        ("", "target_modules=names", False),
        ("", 'target_modules=["query"], **more', False),
        ("self.load_state_dict(saved)", 'target_modules=["query"]', False),
        ("self.tags.weight = saved", 'target_modules=["query"]', False),
    ],
)
def test_new_layer_of_the_scripts_own_model(inside, call, is_found):
    lines = ["self.body = AutoModel.from_pretrained(name)", "self.tags = nn.Linear(8, 3)", inside]
    made = "\n        ".join(["    def __init__(self):", *lines])
    own = f"class Tagger(nn.Module):\n{made}\nbase = Tagger()\n"
    assert _script(call, own) == ({"ADA952": "warning"} if is_found else {})
    assert _script(call, own.replace("from_pretrained", "from_scratch")) == {}
    unfrozen = TRAIN.replace("Tr", "model.base_model.model.tags.requires_grad_(True)\nTr", 1)
    assert _script(call, own, unfrozen) == {}


@pytest.mark.parametrize(
    ("name", "targets", "is_found"),
    [
        ("gpt2", '"all-linear"', True),
        ("facebook/opt-350m", '["q_proj", "fc1", "fc2"]', True),
        ("gpt2", '["c_attn", "wte"]', False),
        ("Qwen/Qwen2.5-7B", '"all-linear"', False),
        ("somebody/gpt2-chat", '"all-linear"', False),
        ("mistralai/Mistral-7B-Instruct-v0.3", '"all-linear"', False),
    ],
)
def test_format_of_chats_adds_tokens(name, targets, is_found):
    base = f"base = AutoModelForCausalLM.from_pretrained('{name}')\n"
    before = f"{base}base, tokenizer = setup_chat_format(base, tokenizer)\n"
    expected = {"ADA953": "warning"} if is_found else {}
    assert _script(f"target_modules={targets}", before) == expected
    assert _script(f"target_modules={targets}", f"{before}{base}") == {}


@pytest.mark.parametrize(
    ("added", "call", "is_found"),
    [
        ('add_tokens(["<a>"])', "r=8", True),
        ("add_tokens(words)", 'target_modules="all-linear"', True),
        ('add_special_tokens({"additional_special_tokens": ["<a>"]})', "r=8", True),
        ('add_tokens("[PAD]")', "r=8", False),
        ('add_special_tokens({"pad_token": "[PAD]"})', "r=8", False),
        ("add_special_tokens(special)", "r=8", False),
        ('add_tokens(["<a>"])', 'modules_to_save=["wte"]', False),
        ('add_tokens(["<a>"])', "trainable_token_indices=[50257]", False),
        ('add_tokens(["<a>"])', 'target_modules=["c_attn", "wte"]', False),
        ('add_tokens(["<a>"])', 'target_modules=r".*(c_attn|wte)"', False),
        ('add_tokens(["<a>"])', "target_modules=args.targets", False),
    ],
)
def test_new_tokens_whose_rows_stay_frozen(added, call, is_found):
    before = TOKENS.format(added=added, model="gpt2", resized="base")
    assert _script(call, before) == ({"ADA953": "warning"} if is_found else {})
    assert _script(call, TOKENS.format(added=added, model="gpt2", resized="other")) == {}
    unfrozen = ".get_input_embeddings().requires_grad_(True)\n"
    assert _script(call, before, TRAIN.replace("Tr", f"model{unfrozen}Tr")) == {}
    assert _script(call, f"{before}base{unfrozen}") == _script(call, before)


OWN = """
class Inner:
    rank: int = Field(256, ge=1)

    def build(self):
        return LoraConfig(r=self.rank)

class Outer:
    inner: Inner = field(default_factory=Inner)

def main(given: Outer):
    LoraConfig(r=given.inner.rank)
"""


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [
        ("", "", 2),
        ("Field(256, ge=1)", "field(default=256)", 2),
        ("Field(256, ge=1)", "Field(..., ge=1)", 0),
        ("Field(256, ge=1)", "256", 2),
        ("given: Outer", "given", 1),
        ("inner: Inner =", "inner =", 1),
        ("def main", "Inner(rank=8)\ndef main", 0),
        ("def main", "Outer(8)\ndef main", 1),
        ("def main", "class Further(Inner):\n    rank = 8\ndef main", 0),
        ("    LoraConfig(", "    given.inner.rank = 8\n    LoraConfig(", 0),
        ("        return", "        self.rank = 8\n        return", 0),
        ("        return", "        vars(cls(8))\n        return", 0),
    ],
)
def test_defaults_of_an_object_that_is_filled_elsewhere(old, new, count):
    found = inspect(START + OWN.replace(old, new, 1), "python").report.diagnostics
    assert [each.code for each in found] == ["ADA954"] * count


def test_field_of_a_field_of_a_field_ends():
    chain = ".inner" * 300
    text = OWN.replace("given.inner", f"given{chain}").replace("inner: Inner", "inner: Outer")
    assert len(inspect(START + text, "python").report.diagnostics) == 1


@pytest.mark.parametrize(
    ("settings", "is_found"),
    [
        ("peft_type: LORA, r: 32", False),
        ("peft_type: LORA, r: 33", True),
        ("peft_type: LORA, r: 1024, use_rslora: true", False),
        ("peft_type: LORA, r: 1025, use_rslora: true", True),
        ("peft_type: LORA, r: 256, init_lora_weights: gaussian", True),
        ("peft_type: LORA, r: 256, init_lora_weights: pissa", False),
        ("peft_type: LORA, r: 256, lora_alpha: 8", False),
        ("peft_type: LORA, r: 256, lora_alpha: '${alpha}'", False),
        ("peft_type: LORA, r: '${r}'", False),
        ("peft_type: LORA, r: 256, alpha_pattern: {q: 256}", False),
        ("peft_type: LORA, r: 256, inference_mode: true", False),
        ("_target_: peft.LoraConfig, r: 256", True),
        ("train_type: lora, model: a, lora_rank: 128", False),
        ("train_type: lora, model: a, lora_rank: 129", True),
        ("finetuning_type: lora, lora_rank: 256", False),
        ("adapter: lora, base_model: a, lora_r: 256", False),
    ],
)
def test_scale_of_a_default_alpha(settings, is_found):
    assert _codes(f"{{{settings}}}") == ({"ADA954": "warning"} if is_found else {})


@pytest.mark.parametrize(
    ("before", "after", "is_found"),
    [
        ("base.requires_grad_(True)", "", True),
        ("for p in base.classifier.parameters():\n    p.requires_grad = True", "", True),
        ("hook = lambda *given: given[-1].requires_grad_(True)", "", True),
        ("def thaw(model):\n    model.classifier.requires_grad_(True)", "thaw(model)", False),
        ("", "model.requires_grad_(True)", False),
    ],
)
def test_what_is_unfrozen_before_the_adapter_is_added_is_frozen_again(before, after, is_found):
    added, trained = TRAIN.split("Tr", 1)
    found = _script("r=8", f"{HEAD}{before}\n", f"{added}{after}\nTr{trained}")
    assert found == ({"ADA952": "warning"} if is_found else {})


def test_adalora_and_lora_in_one_document_are_both_judged():
    both = (
        f"{START}from peft import AdaLoraConfig\nAdaLoraConfig(total_step=0)\nLoraConfig(r=256)\n"
    )
    assert _codes(both, "python").keys() >= {"ADA201", "ADA954"}
    sections = "a: {peft_type: ADALORA, total_step: 9, tfinal: 2}\nb: {peft_type: LORA, r: 256}\n"
    assert "ADA954" in _codes(sections)


@pytest.mark.parametrize(
    "about", ["from peft import AdaLoraConfig", "model.update_and_allocate(step)"]
)
def test_use_of_a_name_of_adalora_switches_no_rule_of_lora_off(about):
    assert "ADA954" in _codes(f"{START}LoraConfig(r=256)\n{about}\n", "python")


def test_functions_judge_lora_as_the_command_does():
    wide = check_config({"peft_type": "LORA", "r": 256})
    assert ([each.code for each in wide.diagnostics], wide.ok) == (["ADA954"], True)
    script = check_config(f"{START}LoraConfig(r=256)", format="python")
    assert [each.code for each in script.diagnostics] == ["ADA954"]
    assert "ADA105" in _codes("{peft_type: LORA, r: 8, target_r: 4}")


def test_comment_suppresses_a_finding_of_lora():
    assert _codes("peft_type: LORA\nr: 256  # adalora: ignore[ADA954]\n") == {}


KINDS = {
    "rank=8, alpha=16": "ADA104",
    "r=0": "ADA103",
    "lora_dropout=1.5": "ADA103",
    'task_type="CAUSALLM"': "ADA107",
    'bias="lora"': "ADA107",
    'target_modules="q_proj,v_proj"': "ADA505",
    'target_modules=["attn"]': "ADA509",
    "lora_alpha=0": "ADA426",
    'init_lora_weights="kaiming"': "ADA425",
    "use_dora=True, lora_bias=True": "ADA427",
}
"""Faults that PEFT refuses, or trains nothing with."""


@pytest.mark.parametrize("given", KINDS)
def test_fault_of_a_call_that_peft_refuses_or_trains_nothing_with_is_found(given):
    assert _codes(f"{START}LoraConfig({given})\n", "python").keys() == {KINDS[given]}


def test_optimizer_made_before_the_adapter_is_found():
    script = f"""{START}base = load()
optimizer = AdamW(base.parameters())
model = get_peft_model(base, LoraConfig(r=8))
for batch in rows:
    model(**batch).loss.backward()
    optimizer.step()
"""
    assert _codes(script, "python") == {"ADA913": "warning"}
    wrapped = "model = get_peft_model(base, LoraConfig(r=8))\n"
    made = "optimizer = AdamW(model.parameters())\n"
    right = script.replace("optimizer = AdamW(base.parameters())\n", "")
    assert _codes(right.replace(wrapped, wrapped + made), "python") == {}


def test_class_of_ms_swift_with_further_fields_is_not_pefts():
    assert _codes("from swift import LoraConfig\nLoraConfig(r=8, lora_dtype='x')\n", "python") in (
        {}, {"ADA006": "error"},
    )  # fmt: skip
