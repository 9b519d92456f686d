import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification

from mails import batches

model = AutoModelForSequenceClassification.from_pretrained("distilbert-base-uncased", num_labels=2)
model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_lin", "v_lin"]))
for name, parameter in model.named_parameters():
    if "classifier" in name:
        parameter.requires_grad = True
model.print_trainable_parameters()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
for batch in batches():
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
torch.save({k: v for k, v in model.state_dict().items() if "lora" in k or "classifier" in k}, "spam.pt")
