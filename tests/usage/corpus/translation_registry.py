"""Runs one translation experiment described by a table."""
import peft
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

METHODS = {
    "lora": ("LoraConfig", {"r": 8, "lora_alpha": 16}),
    "loha": ("LoHaConfig", {"r": 8, "alpha": 16}),
    "adalora": (
        "AdaLoraConfig",
        {"init_r": 12, "target_r": 8, "lora_alpha": 16, "tinit": 500, "tfinal": 1500, "deltaT": 20},
    ),
}


def config_of(method, total_step, targets=("q_proj", "v_proj")):
    name, settings = METHODS[method]
    settings = dict(settings, target_modules=list(targets), task_type="SEQ_2_SEQ_LM")
    if method == "adalora":
        settings["total_step"] = total_step
    return getattr(peft, name)(**settings)


def run(pair, method, data, out_dir, callbacks, *, steps=10_000, batch=32):
    """Trains; ``callbacks`` come from the experiment and know the method."""
    name = f"Helsinki-NLP/opus-mt-{pair}"
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSeq2SeqLM.from_pretrained(name)
    model = peft.get_peft_model(model, config_of(method, steps))
    args = Seq2SeqTrainingArguments(
        output_dir=str(out_dir),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=5e-4,
        predict_with_generate=True,
    )
    trainer = Seq2SeqTrainer(
        model=model,
        args=args,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        callbacks=callbacks,
    )
    trainer.train()
    return trainer.evaluate()
