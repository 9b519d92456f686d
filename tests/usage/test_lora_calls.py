"""Judge what plain LoRA shares with AdaLoRA: what is wrapped, frozen, saved and named."""

from __future__ import annotations

import pytest
from usage_texts import codes

from adalora_core.checker.rules.usage_base import HEAD, LOOP

LORA = """\
from peft import LoraConfig, get_peft_model
base = AutoModelForCausalLM.from_pretrained("gpt2")
config = LoraConfig(target_modules=["c_attn"])
model = get_peft_model(base, config)
"""
OPTION = (
    "parser = ArgumentParser()\nparser.add_argument('--base', default='gpt2')\n"
    "args = parser.parse_args()\n"
) + LORA.replace("c_attn", "q_proj").replace('"gpt2"', "NAME")
ON_ONE_WAY = (
    LORA.replace("base", "model").partition("model = get")[0],
    "if twice:\n    model = get_peft_model(model, config)\n",
)
KBIT = "from peft import prepare_model_for_kbit_training\n"
TRAINED = "Trainer(model=model, train_dataset=rows).train()\n"
TAUGHT = LORA.replace("base,", "teacher,").replace("base =", "teacher =")
DISTILLED = """\
for batch in loader:
    goal = teacher(**batch)
    distance(model(**batch).logits, goal.logits).backward()
    optimizer.step()
"""
SWITCHED = DISTILLED.replace("    goal", "    with model.disable_adapter():\n        goal")
LOADED = "from peft import PeftModel\nmodel = PeftModel.from_pretrained(base, folder)\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (LORA + TRAINED, None),
        (LORA + f"{KBIT}model = prepare_model_for_kbit_training(model)\n{TRAINED}", "ADA932"),
        (LORA + "for p in model.parameters():\n    p.requires_grad = False\n" + TRAINED, "ADA932"),
        (LORA + TRAINED + "model.merge_and_unload()\nmodel.save_pretrained('o')\n", "ADA933"),
        (LORA + TRAINED + "model = model.merge_and_unload()\nmodel.save_pretrained('o')\n", None),
        (TAUGHT + DISTILLED, "ADA914"),
        (TAUGHT.replace("teacher,", "deepcopy(teacher),") + DISTILLED, None),
        (TAUGHT + f"teacher = load()\n{DISTILLED}", None),
        (TAUGHT + SWITCHED, None),
        (LOADED + "model.merge_and_unload()\nmodel.save_pretrained('o')\n", "ADA933"),
        (LOADED + "model = model.merge_and_unload()\nmodel.save_pretrained('o')\n", None),
        (LORA + "SFTTrainer(model=model, peft_config=config).train()\n", "ADA914"),
        (LORA + "SFTTrainer(model=base, peft_config=None).train()\n", None),
        (LORA.replace("model = get", "for r in ranks:\n    model = get"), "ADA914"),
        (LORA.replace("c_attn", "q_proj") + TRAINED, "ADA921"),
        (OPTION.replace("NAME", "args.base") + TRAINED, None),
        (OPTION.replace("NAME", "'gpt2'") + TRAINED, "ADA921"),
        ("if not twice:\n    model.add_adapter(config)\n".join(ON_ONE_WAY) + TRAINED, None),
        ("model.add_adapter(config)\n".join(ON_ONE_WAY) + TRAINED, "ADA914"),
        (
            LORA.replace(
                "model = ", f"{KBIT}model = prepare_model_for_kbit_training(model)\nmodel = "
            ),
            None,
        ),
    ],
)
def test_fault_of_plain_lora_around_its_adapter(text, code):
    assert codes(text) == ({code} if code else set())


@pytest.mark.parametrize(
    ("kept", "is_fault"),
    [('"lora_A" in k or "lora_B" in k', True), ('"lora_" in k', False), ('"lora_A" in k', False)],
)
def test_weights_that_are_chosen_by_names(kept, is_fault):
    saved = f"torch.save({{k: v for k, v in model.state_dict().items() if {kept}}}, 'lora_B.pt')\n"
    assert ("ADA933" in codes(HEAD + LOOP + saved)) is is_fault


@pytest.mark.parametrize(("measured", "is_fault"), [("imdb", True), ("loader", False)])
def test_total_of_a_dataset_by_any_name(measured, is_fault):
    head = HEAD.replace("total_step=1000", f"total_step=len({measured}) * 3")
    loaded = "imdb = load_dataset('imdb')\nimdb = imdb.map(read)\nloader = DataLoader(imdb, 16)\n"
    assert ("ADA911" in codes(loaded + head + LOOP)) is is_fault
