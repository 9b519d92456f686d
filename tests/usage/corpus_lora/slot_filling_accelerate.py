import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForTokenClassification

from slots import LABELS, loader

accelerator = Accelerator()
base = AutoModelForTokenClassification.from_pretrained(
    "xlm-roberta-base", num_labels=len(LABELS), id2label=dict(enumerate(LABELS))
)
settings = {"r": 16, "lora_alpha": 32, "target_modules": ["query", "value"], "lora_dropout": 0.05}
model = get_peft_model(base, LoraConfig(**settings))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
model, optimizer, batches = accelerator.prepare(model, optimizer, loader())
for epoch in range(5):
    for batch in batches:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
