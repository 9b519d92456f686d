"""Train a model of its own class for sentence embeddings with accelerate, and load a saved state.

Source: huggingface/peft, examples/feature_extraction/peft_lora_embedding_semantic_search.py (with
`AdaLoraConfig`)
"""

import torch
from accelerate import Accelerator
from peft import AdaLoraConfig, TaskType, get_peft_model
from script_parts import base_model, files, kept, token_rows
from torch import nn
from torch.utils.data import DataLoader
from transformers import get_scheduler

# attach: from adalora_core.bridge import attach


class MeanPooling(nn.Module):
    """A mean of the last hidden states, of length 1."""

    def __init__(self):
        super().__init__()
        self.model = base_model("BertModel")

    def forward(self, **kwargs):
        states = self.model(**kwargs)[0]
        weights = kwargs["attention_mask"][..., None].to(states.dtype)
        return nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.model, name)


def pair_loss(cosines, labels):
    """Return the mean squared error of right pairs below 1 and of wrong ones above 0."""
    return torch.where(labels > 0, 1 - cosines, cosines.relu()).square().mean()


def save_adapters(models, weights, output_dir):
    """Save the adapters instead of the weights."""
    for model in models:
        model.save_pretrained(output_dir, state_dict=weights.pop())


def load_adapters(models, input_dir):
    """Load the adapters into the models that have them."""
    while models:
        model = models.pop()
        if hasattr(model, "active_adapter") and hasattr(model, "load_adapter"):
            model.load_adapter(input_dir, model.active_adapter, is_trainable=True)


rows = [
    {"query_input_ids": a, "product_input_ids": b, "labels": float(n % 2)}
    for n, (a, b) in enumerate(zip(token_rows(32), token_rows(32, seed=3), strict=True))
]
accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
model = MeanPooling()
peft_config = AdaLoraConfig(
    init_r=6,
    target_r=3,
    tinit=2,
    tfinal=2,
    deltaT=1,
    total_step=8,
    lora_alpha=16,
    bias="none",
    task_type=TaskType.FEATURE_EXTRACTION,
    target_modules=["key", "query", "value"],
)
model = get_peft_model(model, peft_config)
# attach: model = attach(model)
model.print_trainable_parameters()
loader = DataLoader(rows, shuffle=True, batch_size=4)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
scheduler = get_scheduler(
    name="linear", optimizer=optimizer, num_warmup_steps=0, num_training_steps=8
)
model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
accelerator.register_save_state_pre_hook(save_adapters)
accelerator.register_load_state_pre_hook(load_adapters)

losses = []
step = 0
for epoch in range(2):
    model.train()
    for batch in loader:
        with accelerator.accumulate(model):
            mask = torch.ones_like(batch["query_input_ids"])
            query = model(input_ids=batch["query_input_ids"], attention_mask=mask)
            product = model(input_ids=batch["product_input_ids"], attention_mask=mask)
            loss = pair_loss(torch.sum(query * product, axis=1), batch["labels"])
            losses.append(accelerator.reduce(loss.detach().float(), reduction="sum").item())
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            if accelerator.sync_gradients:
                model.base_model.update_and_allocate(step)
                step += 1
            model.zero_grad()
    accelerator.save_state(f"epoch_{epoch}")
model.eval()
probe = {"input_ids": token_rows(2), "attention_mask": torch.ones(2, 8, dtype=torch.long)}
with torch.no_grad():
    before = model(**probe)
    accelerator.load_state("epoch_1")
    after = model(**probe)

outcome = {
    "train_losses": losses,
    "kept": kept(model),
    "checkpoint": [name for name in files("epoch_1") if "model" in name],
    "reload_difference": (before - after).abs().max().item(),
}
