import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader
from datasets import load_dataset
from transformers import AutoTokenizer, AutoModelForSequenceClassification, DataCollatorWithPadding, get_scheduler
from peft import get_peft_model, AdaLoraConfig, TaskType

batch_size = 32
num_epochs = 6
lr = 1e-3
model_name_or_path = "bert-base-uncased"
device = "cuda"

tokenizer = AutoTokenizer.from_pretrained(model_name_or_path)
datasets = load_dataset("glue", "mrpc")


def tokenize_function(examples):
    return tokenizer(examples["sentence1"], examples["sentence2"], truncation=True, max_length=None)


tokenized = datasets.map(tokenize_function, batched=True, remove_columns=["idx", "sentence1", "sentence2"])
tokenized = tokenized.rename_column("label", "labels")
collator = DataCollatorWithPadding(tokenizer, padding="longest")
train_dataloader = DataLoader(tokenized["train"], shuffle=True, collate_fn=collator, batch_size=batch_size)
eval_dataloader = DataLoader(tokenized["validation"], shuffle=False, collate_fn=collator, batch_size=batch_size)

peft_config = AdaLoraConfig(
    task_type=TaskType.SEQ_CLS,
    init_r=12,
    target_r=4,
    beta1=0.85,
    beta2=0.85,
    tinit=60,
    tfinal=200,
    deltaT=5,
    lora_alpha=32,
    lora_dropout=0.1,
    total_step=len(train_dataloader) * num_epochs,
    target_modules=["query", "value"],
)
model = AutoModelForSequenceClassification.from_pretrained(model_name_or_path, return_dict=True)
model = get_peft_model(model, peft_config)
model.print_trainable_parameters()
model.to(device)

optimizer = AdamW(params=model.parameters(), lr=lr)
lr_scheduler = get_scheduler("linear", optimizer, 20, len(train_dataloader) * num_epochs)

for epoch in range(num_epochs):
    model.train()
    total_loss = 0
    for step, batch in enumerate(train_dataloader):
        batch.to(device)
        outputs = model(**batch)
        loss = outputs.loss
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        total_loss += loss.detach().float()

    model.eval()
    correct, seen = 0, 0
    for batch in eval_dataloader:
        batch.to(device)
        with torch.no_grad():
            outputs = model(**batch)
        predictions = outputs.logits.argmax(dim=-1)
        correct += (predictions == batch["labels"]).sum().item()
        seen += len(predictions)
    print(f"epoch {epoch}: loss {total_loss / len(train_dataloader):.4f} acc {correct / seen:.4f}")

model.save_pretrained("mrpc_adalora")
