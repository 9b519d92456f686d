from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainerCallback, TrainingArguments


class RankUpdates(TrainerCallback):
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        conf = model.peft_config["default"]
        # only start updating after tinit steps, and when a pattern exists
        if conf.rank_pattern is not None and state.global_step >= conf.tinit:
            model.base_model.update_and_allocate(state.global_step)


def tokenized(name, tokenizer):
    data = load_dataset("dair-ai/emotion")
    return data.map(lambda rows: tokenizer(rows["text"], truncation=True), batched=True)


def main():
    name = "cardiffnlp/twitter-roberta-base"
    tokenizer = AutoTokenizer.from_pretrained(name)
    data = tokenized(name, tokenizer)
    peft_config = AdaLoraConfig(
        task_type="SEQ_CLS",
        target_modules=["query", "value"],
        init_r=12,
        target_r=4,
        lora_alpha=32,
        tinit=200,
        tfinal=500,
        deltaT=10,
        total_step=2000,
    )
    model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(name, num_labels=6), peft_config)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            "emotion",
            max_steps=2000,
            per_device_train_batch_size=32,
            learning_rate=1e-3,
            eval_strategy="steps",
            eval_steps=500,
        ),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        processing_class=tokenizer,
        callbacks=[RankUpdates()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
