"""Pass adapters on as dictionaries, through PEFT's helpers and a loop's own checkpoint.

Source: huggingface/peft, docs/source/developer_guides/checkpoint.md (with an adapter of AdaLoRA)
"""

import torch
from peft import AdaLoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from script_parts import base_model, kept, token_rows

# attach: from adalora_core.bridge import attach


def wrapped():
    """Return a model with a fresh adapter."""
    config = AdaLoraConfig(
        task_type="CAUSAL_LM",
        init_r=6,
        target_r=3,
        tinit=1,
        tfinal=2,
        deltaT=1,
        total_step=8,
        target_modules=["q_proj", "v_proj"],
    )
    return get_peft_model(base_model("LlamaForCausalLM"), config)


model = wrapped()
# attach: model = attach(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
rows = token_rows(4)
losses = []
for step in range(8):
    loss = model(input_ids=rows, labels=rows).loss
    losses.append(loss.item())
    loss.backward()
    optimizer.step()
    model.update_and_allocate(step)
    optimizer.zero_grad()
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "checkpoint.pt")
state = get_peft_model_state_dict(model)
pattern = {
    name.removesuffix(".default"): sum(kept)
    for name, kept in model.peft_config["default"].rank_pattern.items()
}
model.save_pretrained("saved")
saved = load_file("saved/adapter_model.safetensors")

other = wrapped()
result = other.load_state_dict(torch.load("checkpoint.pt")["model"])
model.eval(), other.eval()
with torch.no_grad():
    difference = (other(input_ids=rows).logits - model(input_ids=rows).logits).abs().max().item()
third = wrapped()
set_peft_model_state_dict(third, get_peft_model_state_dict(wrapped()))

outcome = {
    "train_losses": losses,
    "kept": kept(model),
    "ranks_in_state": {name: list(value.shape) for name, value in sorted(state.items())},
    "pattern": pattern,
    "pattern_after": {
        name.removesuffix(".default"): sum(kept)
        for name, kept in model.peft_config["default"].rank_pattern.items()
    },
    "saved_keys": sorted(saved),
    "missing": list(result.missing_keys),
    "load_difference": difference,
}
