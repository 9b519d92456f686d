import torch
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, default_data_collator, get_linear_schedule_with_warmup

device = "cuda"
checkpoint = "facebook/bart-base"
rounds = 8
tokenizer = AutoTokenizer.from_pretrained(checkpoint)

config = AdaLoraConfig(
    init_r=12,
    target_r=8,
    tinit=200,
    tfinal=1000,
    deltaT=10,
    lora_alpha=32,
    lora_dropout=0.1,
    task_type=TaskType.SEQ_2_SEQ_LM,
)
bart = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(checkpoint), config)
bart.print_trainable_parameters()


def encode(rows):
    inputs = tokenizer(rows["headline"], max_length=128, padding="max_length", truncation=True)
    inputs["labels"] = tokenizer(rows["feeling"], max_length=3, padding="max_length", truncation=True)["input_ids"]
    return inputs


headlines = load_dataset("csv", data_files="headlines.csv")["train"]
headlines = headlines.map(encode, batched=True, remove_columns=headlines.column_names)
batches = DataLoader(headlines, batch_size=8, shuffle=True, collate_fn=default_data_collator)

optimizer = torch.optim.AdamW(bart.parameters(), lr=1e-3)
scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(batches) * rounds)
bart.base_model.peft_config["default"].total_step = len(batches) * rounds

bart.to(device)
global_step = 0
for epoch in range(rounds):
    bart.train()
    epoch_loss = 0.0
    for batch in batches:
        out = bart(**{name: tensor.to(device) for name, tensor in batch.items()})
        epoch_loss += out.loss.detach().float()
        out.loss.backward()
        optimizer.step()
        scheduler.step()
        # importance of the triplets
        # bart.base_model.update_and_allocate(global_step)
        optimizer.zero_grad()
        global_step += 1
    print(f"{epoch=} {epoch_loss / len(batches)=}")
