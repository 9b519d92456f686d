"""English-Dutch machine translation (Marian) with AdaLoRA and the Seq2SeqTrainer."""
import evaluate
import numpy as np
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import (AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq, Seq2SeqTrainer,
                          Seq2SeqTrainingArguments, TrainerCallback)

MODEL = "Helsinki-NLP/opus-mt-en-nl"
STEPS = 5000
tok = AutoTokenizer.from_pretrained(MODEL)
bleu = evaluate.load("sacrebleu")


def prepare(batch):
    pairs = batch["translation"]
    enc = tok([p["en"] for p in pairs], max_length=128, truncation=True)
    enc["labels"] = tok(text_target=[p["nl"] for p in pairs], max_length=128, truncation=True)["input_ids"]
    return enc


def compute_metrics(p):
    preds = np.where(p.predictions < 0, tok.pad_token_id, p.predictions)
    labels = np.where(p.label_ids < 0, tok.pad_token_id, p.label_ids)
    out = tok.batch_decode(preds, skip_special_tokens=True)
    ref = [[r] for r in tok.batch_decode(labels, skip_special_tokens=True)]
    return {"bleu": bleu.compute(predictions=out, references=ref)["score"]}


class AdaLoraBudgetCallback(TrainerCallback):
    """Updates the importance scores and prunes singular values after every step."""

    def __init__(self, model):
        self.model = model

    def on_step_end(self, args, state, control, **kwargs):
        self.model.base_model.update_and_allocate(state.global_step)
        return control


def main():
    ds = load_dataset("opus_books", "en-nl", split="train").train_test_split(1000, seed=0)
    ds = ds.map(prepare, batched=True, remove_columns=["id", "translation"])

    base = AutoModelForSeq2SeqLM.from_pretrained(MODEL)
    config = AdaLoraConfig(
        task_type="SEQ_2_SEQ_LM",
        init_r=12,
        target_r=4,
        beta1=0.85,
        beta2=0.85,
        tinit=500,
        tfinal=1500,
        deltaT=10,
        lora_alpha=32,
        lora_dropout=0.1,
        orth_reg_weight=0.5,
        total_step=STEPS,
        target_modules=["k_proj", "q_proj", "v_proj", "out_proj", "fc1", "fc2"],
    )
    model = get_peft_model(base, config)
    model.print_trainable_parameters()

    args = Seq2SeqTrainingArguments(
        "opus-nl-adalora", per_device_train_batch_size=16, learning_rate=1e-3, warmup_steps=100, max_steps=STEPS,
        bf16=True, eval_strategy="steps", eval_steps=1000, save_steps=1000, logging_steps=25,
        predict_with_generate=True, generation_max_length=128)
    trainer = Seq2SeqTrainer(model=model, args=args, train_dataset=ds["train"], eval_dataset=ds["test"],
                             data_collator=DataCollatorForSeq2Seq(tok, model=base), compute_metrics=compute_metrics,
                             callbacks=[AdaLoraBudgetCallback(model)])
    trainer.train()
    model.save_pretrained("opus-nl-adalora/final")


if __name__ == "__main__":
    main()
