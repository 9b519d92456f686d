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
            None,
        ),  # PEFT raises
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
        ('base_model_name_or_path: gpt2, target_modules: "c_attn|q_proj"', None),
    ],
)
def test_target_that_the_named_model_lacks(settings, severity):
    found = _codes(f"{{peft_type: LORA, r: 8, lora_alpha: 16, {settings}}}")
    assert found == ({"ADA951": severity} if severity else {})


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
        ("", 'target_modules="all-linear"', False),
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
        ('add_tokens(["<a>"])', 'target_modules=r".*(attn|wte)"', False),
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
        ("peft_type: LORA, r: {a: 1}", False),
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
    ("after", "is_found"),
    [
        (TRAIN, True),
        ("\nSFTTrainer(base, peft_config=config).train()\n", True),
        ("\nmodel = get_peft_model(base, config)\nmodel.generate(**inputs)\n", False),
        ("\nmodel = get_peft_model(base, LoraConfig())\nTrainer(model=model).train()\n", False),
        ("\nbase = PeftModel.from_pretrained(base, 'a', config=config)\n", False),
        (TRAIN.replace("config)", "LoraConfig())\nmodel.add_adapter('b', config)"), False),
    ],
)
def test_adapter_for_inference_that_is_trained(after, is_found):
    found = _script("inference_mode=True", after=after)
    assert found == ({"ADA955": "warning"} if is_found else {})


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


@pytest.mark.parametrize(
    ("unfrozen", "is_found"),
    [
        ("model.base_model.model.score.requires_grad_(True)", True),
        ("model.get_input_embeddings().weight.requires_grad = True", True),
        ("for p in model.classifier.parameters(): p.requires_grad = True", True),
        ("for n, p in model.named_parameters():\n    p.requires_grad = 'score' in n", True),
        ("for n, p in model.named_parameters():\n    p.requires_grad = 'lora_' in n", False),
        ("for n, p in model.named_parameters():\n    p.requires_grad = 'score' not in n", False),
        ("for p in model.parameters(): p.requires_grad = True", False),
        ("classifier = model\nclassifier.requires_grad_(True)", False),
        ("model.set_adapter('default')", False),
        ("model.peft_config['default'].inference_mode = False", False),
    ],
)
def test_head_that_is_unfrozen_alone_trains_no_factors(unfrozen, is_found):
    added, trained = TRAIN.split("Tr", 1)
    after = f"{added}{unfrozen}\nTr{trained}"
    assert _script("**{'inference_mode': True}", after=after) == (
        {"ADA955": "warning"} if is_found else {}
    )


@pytest.mark.parametrize(
    ("load", "after", "is_found"),
    [
        ("config = LoraConfig.from_pretrained(folder)", TRAIN, True),
        ("config = LoraConfig.from_pretrained(folder, inference_mode=False)", TRAIN, True),
        (
            "config = LoraConfig.from_pretrained(folder)\nconfig.inference_mode = False",
            TRAIN,
            False,
        ),
        (
            "config = LoraConfig.from_pretrained(folder)",
            "\nSFTTrainer(m, peft_config=config).train()",
            True,
        ),
        ("", TRAIN.replace("config", "LoraConfig.from_pretrained(folder)"), True),
        ("config: LoraConfig = LoraConfig.from_pretrained(folder)", TRAIN, True),
        (
            "config = LoraConfig.from_pretrained(folder)\nsetattr(config, 'inference_mode', False)",
            TRAIN,
            False,
        ),
        (
            "config = PeftConfig.from_pretrained(folder)\nname = config.base_model_name_or_path",
            TRAIN,
            True,
        ),
        ("config = PeftConfig.from_pretrained(folder)", TRAIN, None),
        ("config = LoraConfig.from_pretrained(folder)", TRAIN.replace("Tr", "# Tr"), False),
        (
            "config = LoraConfig.from_pretrained(folder)",
            "\nPeftModel.from_pretrained(base, folder, config=config)",
            None,
        ),
    ],
)
def test_saved_configuration_that_is_trained_with(load, after, is_found):
    """None: there is no configuration."""
    found = _codes(f"{START}from peft import PeftConfig\n{load}{after}", "python")
    none = {"ADA006": "error"} if is_found is None else {}
    assert found == ({"ADA955": "warning"} if is_found else none)


@pytest.mark.parametrize(
    ("change", "is_found"),
    [
        ("", True),
        ("settings.update(r=4)\nsettings.pop('revision')", True),
        ("for key in ('revision', 'auto_mapping'):\n    settings.pop(key, None)", True),
        ("for key in ('revision', 'inference_mode'):\n    settings.pop(key, None)", False),
        ("for key in settings_of_runs:\n    settings.pop(key, None)", False),
        ("settings['inference_mode'] = False", False),
        ("settings = {**settings, 'inference_mode': False}", False),
    ],
)
@pytest.mark.parametrize("owner", ["LoraConfig", "PeftConfig"])
def test_settings_of_a_saved_configuration(owner, change, is_found):
    load = f"from peft import PeftConfig\nsettings = {owner}.from_pretrained(folder).to_dict()\n"
    found = _script("**settings", f"{load}{change}\n")
    assert found == ({"ADA955": "warning"} if is_found else {})


@pytest.mark.parametrize(
    ("given", "after", "is_found"),
    [
        ("", "DPOTrainer(model, args).train()", True),
        ("", "SFTTrainer(model=model, train_dataset=rows).train()", True),
        ("", "SFTTrainer(model=model, peft_config=LoraConfig()).train()", False),
        ("", "model.train()\nmodel.generate(**inputs)", False),
        ("", "model.set_adapter('b')\nTrainer(model).train()", False),
        (", is_trainable=True", "Trainer(model).train()", False),
        ("", "Trainer(model.merge_and_unload()).train()", False),
        ("", "DPOTrainer(base, ref_model=model).train()", False),
    ],
)
def test_loaded_adapter_that_is_trained(given, after, is_found):
    load = f"from peft import PeftModel\nmodel = PeftModel.from_pretrained(base, folder{given})\n"
    found = _codes(f"{START}{load}{after}\n", "python")
    assert found == ({"ADA955": "warning"} if is_found else {})


def test_adapter_for_inference_beside_the_settings_of_a_training():
    section = "peft: {peft_type: LORA, r: 8, inference_mode: true}\n"
    assert _codes(f"{section}train: {{lr: 0.1}}\n") == {"ADA955": "warning"}
    assert _codes(section) == {}
    assert _codes("{peft_type: LORA, r: 8, inference_mode: true, lr: 0.1}") == {}


def test_adalora_beside_lora_is_judged_alone():
    both = (
        f"{START}from peft import AdaLoraConfig\nAdaLoraConfig(total_step=0)\nLoraConfig(r=256)\n"
    )
    assert "ADA201" in _codes(both, "python")
    assert not any(code.startswith("ADA95") for code in _codes(both, "python"))
    sections = "a: {peft_type: ADALORA, total_step: 9, tfinal: 2}\nb: {peft_type: LORA, r: 256}\n"
    assert "ADA954" not in _codes(sections)


def test_lora_is_an_error_where_adalora_is_asked_for():
    wide = {"peft_type": "LORA", "r": 256}
    assert [each.code for each in check_config(wide).errors] == ["ADA105"]
    script = f"{START}LoraConfig(r=256)"
    assert [each.code for each in check_config(script, format="python").errors] == ["ADA006"]
    assert "ADA105" in _codes("{peft_type: LORA, r: 8, target_r: 4}")


def test_comment_suppresses_and_a_use_of_adalora_names_takes_over():
    assert _codes("peft_type: LORA\nr: 256  # adalora: ignore[ADA954]\n") == {}
    about = f"{START}LoraConfig(r=256)\nmodel.update_and_allocate(step)\n"
    assert "ADA954" not in _codes(about, "python")
