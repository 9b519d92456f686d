"""ADA955: adapters of plain LoRA that are made, saved or loaded for inference, and trained."""

from __future__ import annotations

import pytest
from contract_fixes import inspect

START = "from peft import LoraConfig, get_peft_model\n"
TRAIN = "\nmodel = get_peft_model(base, config)\nTrainer(model=model, train_dataset=rows).train()\n"


def _codes(text, form="yaml"):
    return {each.code: each.severity for each in inspect(text, form).report.diagnostics}


def _script(call, before='base = AutoModelForCausalLM.from_pretrained("gpt2")\n', after=TRAIN):
    return _codes(f"{START}{before}config = LoraConfig({call}){after}", "python")


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
        ("config = PeftConfig.from_pretrained(folder)", TRAIN, False),
        (
            "def train(folder):\n    config = LoraConfig.from_pretrained(folder)",
            f"{TRAIN.rstrip()}\ntrain('.')\n".replace("\n", "\n    "),
            False,
        ),
        (
            f"config = LoraConfig(r=8){TRAIN}config = LoraConfig.from_pretrained(folder)",
            "\nmodel = get_peft_model(base, config)",
            False,
        ),
        ("config = LoraConfig.from_pretrained(folder)", TRAIN.replace("Tr", "# Tr"), False),
        (
            "config = LoraConfig.from_pretrained(folder)",
            "\nPeftModel.from_pretrained(base, folder, config=config)",
            None,
        ),
    ],
)
def test_saved_configuration_that_is_trained_with(load, after, is_found):
    found = _codes(f"{START}from peft import PeftConfig\n{load}{after}", "python")
    assert found == ({"ADA955": "warning"} if is_found else {})


@pytest.mark.parametrize(
    ("change", "is_found"),
    [
        ("", True),
        ("settings.update(r=4)\nsettings.pop('revision')", True),
        ("for key in ('revision', 'auto_mapping'):\n    settings.pop(key, False)", True),
        ("for key in ('revision', 'inference_mode'):\n    settings.pop(key, False)", False),
        ("for key in settings_of_runs:\n    settings.pop(key, False)", False),
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
    assert "ADA955" not in _codes("{peft_type: LORA, r: 8, inference_mode: true, lr: 0.1}")
