import os
import yaml
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq,
                          Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback)

SETTINGS = yaml.safe_load("""
model: google/flan-t5-base
max_steps: 3000
batch: 8
accum: 2
lr: 1.0e-3
out: runs/samsum
adalora:
  init_r: 16
  target_r: 8
  tinit: 300
  tfinal: 900
  deltaT: 20
  lora_alpha: 32
  lora_dropout: 0.05
  target_modules: [q, k, v, o]
""")


class UpdateRanks(TrainerCallback):
    def on_step_end(self, args, state, control, model, **kw):
        model.base_model.update_and_allocate(state.global_step)


def prepare(tok):
    ds = load_dataset("knkarthick/samsum")

    def f(ex):
        x = tok(["summarize: " + (d or "") for d in ex["dialogue"]], max_length=512, truncation=True)
        x["labels"] = tok(text_target=ex["summary"], max_length=96, truncation=True)["input_ids"]
        return x

    return ds.map(f, batched=True, remove_columns=ds["train"].column_names)


if __name__ == "__main__":
    s = SETTINGS
    tok = AutoTokenizer.from_pretrained(s["model"])
    ds = prepare(tok)
    model = AutoModelForSeq2SeqLM.from_pretrained(s["model"])
    model = get_peft_model(model, AdaLoraConfig(task_type="SEQ_2_SEQ_LM", total_step=s["max_steps"], **s["adalora"]))
    ta = Seq2SeqTrainingArguments(
        output_dir=s["out"],
        max_steps=s["max_steps"],
        per_device_train_batch_size=s["batch"],
        gradient_accumulation_steps=s["accum"],
        learning_rate=s["lr"],
        logging_steps=20,
        save_strategy="no",
        predict_with_generate=True,
    )
    tr = Seq2SeqTrainer(model=model, args=ta, train_dataset=ds["train"], eval_dataset=ds["validation"],
                        data_collator=DataCollatorForSeq2Seq(tok, model=model), callbacks=[UpdateRanks()])
    tr.train()
    model.save_pretrained(os.path.join(s["out"], "adapter"))
