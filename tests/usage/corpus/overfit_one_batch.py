"""Sanity check: can DistilBERT with an adapter learn one batch by heart?"""
import torch
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

STEPS = 100
name = "distilbert-base-uncased"
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2)
model = get_peft_model(
    model,
    AdaLoraConfig(
        task_type="SEQ_CLS",
        init_r=8,
        target_r=4,
        lora_alpha=16,
        tinit=40,
        tfinal=30,
        deltaT=50,
        total_step=STEPS,
        target_modules=["q_lin", "v_lin"],
    ),
)
batch = tokenizer(["a good film", "a dull film"], return_tensors="pt", padding=True)
batch["labels"] = torch.tensor([1, 0])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

print("before:", model(**batch).loss.item())
for step in range(STEPS):
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    model.base_model.update_and_allocate(global_step=step)
    optimizer.zero_grad()
print("after: ", loss.item())
assert loss.item() < 0.1, "cannot learn two sentences by heart"
