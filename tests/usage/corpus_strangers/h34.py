"""python h34.py settings.yaml"""
import sys
from types import SimpleNamespace

import evaluate
import numpy as np
import yaml
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq,
                          Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback)

DEFAULTS = dict(model="t5-base", steps=4000, bs=16, accum=1, lr=1e-3, init_r=12, target_r=6,
                warm=0.1, final=0.25, out="t5-cnn")


def load_settings(argv):
    s = dict(DEFAULTS)
    if len(argv) > 1:
        with open(argv[1]) as fh:
            s.update(yaml.safe_load(fh) or {})
    s = SimpleNamespace(**s)
    assert s.init_r > s.target_r and s.warm + s.final < 1
    return s


class RankScheduler(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kw):
        cfg = model.peft_config["default"]
        if state.max_steps != cfg.total_step:
            raise RuntimeError(f"schedule {cfg.total_step} vs training {state.max_steps}")

    def on_optimizer_step(self, args, state, control, model=None, **kw):
        model.base_model.update_and_allocate(state.global_step)


def main():
    s = load_settings(sys.argv)
    tok = AutoTokenizer.from_pretrained(s.model)
    ds = load_dataset("abisee/cnn_dailymail", "3.0.0")

    def pre(b):
        m = tok(["summarize: " + x for x in b["article"]], max_length=512, truncation=True)
        m["labels"] = tok(text_target=b["highlights"], max_length=128, truncation=True)["input_ids"]
        return m

    tr = ds["train"].select(range(60_000)).map(pre, batched=True, remove_columns=ds["train"].column_names)
    va = ds["validation"].select(range(500)).map(pre, batched=True, remove_columns=ds["train"].column_names)
    rouge = evaluate.load("rouge")

    def metrics(p):
        pred, ref = (np.where(x < 0, tok.pad_token_id, x) for x in (p.predictions, p.label_ids))
        return rouge.compute(predictions=tok.batch_decode(pred, skip_special_tokens=True),
                             references=tok.batch_decode(ref, skip_special_tokens=True))

    model = get_peft_model(AutoModelForSeq2SeqLM.from_pretrained(s.model), AdaLoraConfig(
        task_type="SEQ_2_SEQ_LM", init_r=s.init_r, target_r=s.target_r, lora_alpha=2 * s.init_r,
        target_modules=["q", "k", "v", "o", "wi", "wo"],
        tinit=int(s.warm * s.steps), tfinal=int(s.final * s.steps), deltaT=10, total_step=s.steps))
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            s.out, max_steps=s.steps, per_device_train_batch_size=s.bs,
            gradient_accumulation_steps=s.accum, learning_rate=s.lr,
            eval_strategy="steps", eval_steps=1000, predict_with_generate=True, logging_steps=50),
        train_dataset=tr, eval_dataset=va, compute_metrics=metrics,
        data_collator=DataCollatorForSeq2Seq(tok), callbacks=[RankScheduler()])
    trainer.train()
    model.save_pretrained(f"{s.out}/adapter")


if __name__ == "__main__":
    main()
