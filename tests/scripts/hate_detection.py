"""Train a causal model without a task type, save, load, merge and generate.

The model names no `total_step`, which PEFT now refuses; here it has one.

Source: yishui-4V/AdaLoRA-Qwen3-0.6B-HateDetection-, train_with_adalora.py
"""

import json
from pathlib import Path

import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model
from script_parts import files, kept, saved_base, sentences, tokenizer
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)

# attach: from adalora_core.bridge import attach

words = tokenizer()
path = saved_base("Qwen3ForCausalLM")
original = AutoModelForCausalLM.from_pretrained(path, device_map="auto", dtype="auto")
config = AdaLoraConfig(target_modules=["q_proj", "v_proj"], init_r=12, total_step=8)
model = get_peft_model(original, config)
# attach: model = attach(model)
model.print_trainable_parameters()


def answer(text, model):
    """Return what the model adds to a text."""
    inputs = words(text, return_tensors="pt")
    with torch.no_grad():
        return model.generate(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask,
            max_new_tokens=4,
            do_sample=False,
            pad_token_id=words.eos_token_id,
        )[0].tolist()


rows = [words(text) for text in sentences(32)]
rows = [{**row, "labels": [-100] * 4 + row["input_ids"][4:]} for row in rows]
before = [answer(text, original) for text in sentences(2)]
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="qa_model",
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        save_strategy="epoch",
        learning_rate=1e-2,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=rows,
    data_collator=DataCollatorForSeq2Seq(tokenizer=words, padding=True),
)
trainer.train()
model.save_pretrained("saved")
words.save_pretrained("saved")
Path("saved/config.json").write_text(json.dumps(model.config.to_dict()))

base = AutoModelForCausalLM.from_pretrained(path, device_map="auto")
merged = PeftModel.from_pretrained(base, "saved").to("cpu")
merged = merged.merge_and_unload()
inputs = words(sentences(2), return_tensors="pt")
with torch.no_grad():
    difference = (merged(**inputs).logits - model.eval()(**inputs).logits).abs().max().item()

outcome = {
    "before": before,
    "train_losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    "kept": kept(model),
    "files": files("saved"),
    "checkpoint": [name for name in files("qa_model/checkpoint-8") if "model" in name],
    "merged_class": type(merged).__name__,
    "merged_difference": difference,
    "after": [answer(text, merged) for text in sentences(2)],
}
