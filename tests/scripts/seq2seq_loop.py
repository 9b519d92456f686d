"""Train a BART model in a loop, evaluate after each epoch, save, load and generate.

Source: huggingface/peft, examples/conditional_generation/peft_adalora_seq2seq.py
"""

import torch
from peft import AdaLoraConfig, PeftConfig, PeftModel, TaskType, get_peft_model
from script_parts import files, kept, saved_base, token_rows
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSeq2SeqLM,
    default_data_collator,
    get_linear_schedule_with_warmup,
)

rows = [
    {"input_ids": row[:6], "attention_mask": torch.ones(6, dtype=torch.long), "labels": row[6:]}
    for row in token_rows(40, 9)
]
epochs = 3
path = saved_base("BartForConditionalGeneration")
peft_config = AdaLoraConfig(
    init_r=6,
    target_r=3,
    beta1=0.85,
    beta2=0.85,
    tinit=3,
    tfinal=5,
    deltaT=2,
    lora_alpha=32,
    lora_dropout=0.1,
    task_type=TaskType.SEQ_2_SEQ_LM,
    inference_mode=False,
    total_step=len(rows) * epochs,
)
model = AutoModelForSeq2SeqLM.from_pretrained(path)
model = get_peft_model(model, peft_config)
model.print_trainable_parameters()

train = DataLoader(rows[:32], shuffle=True, collate_fn=default_data_collator, batch_size=8)
evaluation = DataLoader(rows[32:], collate_fn=default_data_collator, batch_size=8)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = get_linear_schedule_with_warmup(
    optimizer=optimizer, num_warmup_steps=0, num_training_steps=len(train) * epochs
)
model.base_model.peft_config["default"].total_step = len(train) * epochs

train_losses, evaluation_losses = [], []
global_step = 0
for _ in range(epochs):
    model.train()
    for batch in train:
        loss = model(**batch).loss
        train_losses.append(loss.item())
        loss.backward()
        optimizer.step()
        scheduler.step()
        model.base_model.update_and_allocate(global_step)
        optimizer.zero_grad()
        global_step += 1
    model.eval()
    for batch in evaluation:
        with torch.no_grad():
            evaluation_losses.append(model(**batch).loss.item())

folder = f"bart_{peft_config.peft_type}_{peft_config.task_type}"
model.save_pretrained(folder)
config = PeftConfig.from_pretrained(folder)
again = AutoModelForSeq2SeqLM.from_pretrained(config.base_model_name_or_path)
again = PeftModel.from_pretrained(again, folder)
again.eval()
inputs = {"input_ids": rows[0]["input_ids"][None], "decoder_input_ids": rows[1]["labels"][None]}
with torch.no_grad():
    reload_difference = (again(**inputs).logits - model(**inputs).logits).abs().max().item()
    tokens = again.generate(input_ids=inputs["input_ids"], max_new_tokens=4)

outcome = {
    "train_losses": train_losses,
    "evaluation_losses": evaluation_losses,
    "kept": kept(model),
    "files": files(folder),
    "reload_difference": reload_difference,
    "tokens": tokens.tolist(),
}
