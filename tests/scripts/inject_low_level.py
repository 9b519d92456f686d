"""Inject an adapter into a model without a wrapper, train and pass its state on.

Source: huggingface/peft, docs/source/developer_guides/low_level_api.md (with `AdaLoraConfig`)
"""

import torch
from peft import (
    AdaLoraConfig,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from script_parts import kept

# attach: from adalora_core import allocate_on_step
# attach: from adalora_core.bridge import attach


class TwoLayers(torch.nn.Module):
    """An embedding and two linear layers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = torch.nn.Embedding(10, 10)
        self.linear = torch.nn.Linear(10, 10)
        self.lm_head = torch.nn.Linear(10, 10)

    def forward(self, input_ids):
        """Return logits."""
        return self.lm_head(self.linear(self.embedding(input_ids)))


config = AdaLoraConfig(
    lora_alpha=16,
    init_r=6,
    target_r=3,
    tinit=2,
    tfinal=2,
    total_step=10,
    bias="none",
    target_modules=["linear"],
)
model = inject_adapter_in_model(config, TwoLayers())
tokens = torch.LongTensor([[0, 1, 2, 3, 4, 5, 6, 7]])
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
# attach: allocate_on_step(optimizer, attach(model))
losses = []
for _ in range(10):
    logits = model(tokens)
    loss = torch.nn.functional.cross_entropy(logits[0], tokens[0])
    losses.append(loss.item())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
state = get_peft_model_state_dict(model)
other = inject_adapter_in_model(config, TwoLayers())
# attach: attach(other)
result = set_peft_model_state_dict(other, state)

outcome = {
    "train_losses": losses,
    "kept": kept(model),
    "keys": sorted(state),
    "unexpected": list(result.unexpected_keys),
    "reload_difference": (other(tokens) - model(tokens)).abs().max().item(),
}
