"""Load two adapters into one model, change between them and switch both off.

Source: huggingface/peft, examples/multi_adapter_examples/PEFT_Multi_LoRA_Inference.ipynb (with
adapters of AdaLoRA)
"""

import torch
from peft import AdaLoraConfig, PeftModel, TaskType, get_peft_model
from script_parts import base_model, files, kept, token_rows

# attach: from adalora_core.bridge import attach


def train(folder, seed):
    """Train an adapter and save it."""
    torch.manual_seed(seed)
    config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM,
        init_r=4,
        target_r=2,
        tinit=1,
        tfinal=2,
        deltaT=1,
        total_step=6,
        target_modules=["q_proj", "v_proj"],
    )
    model = get_peft_model(base_model("LlamaForCausalLM"), config)
    # attach: model = attach(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
    for step in range(6):
        rows = token_rows(4, seed=10 * seed + step)
        model(input_ids=rows, labels=rows).loss.backward()
        optimizer.step()
        model.update_and_allocate(step)
        optimizer.zero_grad()
    model.save_pretrained(folder)


train("first", 1)
train("second", 2)
model = PeftModel.from_pretrained(base_model("LlamaForCausalLM"), "first", adapter_name="english")
# attach: model = attach(model)
model.load_adapter("second", adapter_name="dutch")
model.to("cpu")
model.eval()
rows = token_rows(1)


def answer():
    """Return logits, and what the model adds to a text."""
    with torch.no_grad():
        tokens = model.generate(
            input_ids=rows[:, :4], attention_mask=torch.ones_like(rows[:, :4]), max_new_tokens=4
        )
        return model(input_ids=rows).logits, tokens.tolist()


model.set_adapter("english")
first = answer()
model.set_adapter("dutch")
second = answer()
with model.disable_adapter():
    without = answer()
plain = base_model("LlamaForCausalLM").eval()(input_ids=rows).logits
model.delete_adapter("english")

outcome = {
    "first": first[0].mean().item(),
    "second": second[0].mean().item(),
    "distance": (first[0] - second[0]).abs().max().item(),
    "without": (without[0] - plain).abs().max().item(),
    "tokens": [first[1], second[1], without[1]],
    "left": list(model.peft_config),
    "active": model.active_adapters,
    "kept": kept(model),
    "files": files("first"),
}
