import argparse

from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

from grader.callbacks import MetricsWriter, RankAllocationCallback
from grader.metrics import quadratic_kappa


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=13)
    p.add_argument("--max-steps", type=int, default=3000)
    return p.parse_args()


def main():
    args = parse()
    set_seed(args.seed)
    tokenizer = AutoTokenizer.from_pretrained("answerdotai/ModernBERT-base")
    answers = load_dataset("json", data_files={"train": f"{args.data}/train.json", "dev": f"{args.data}/dev.json"})
    answers = answers.map(lambda r: tokenizer(r["question"], r["answer"], truncation=True), batched=True)

    model = AutoModelForSequenceClassification.from_pretrained("answerdotai/ModernBERT-base", num_labels=5)
    model = get_peft_model(
        model,
        AdaLoraConfig(
            task_type=TaskType.SEQ_CLS,
            target_modules=["Wqkv", "Wo"],
            init_r=12,
            target_r=6,
            lora_alpha=24,
            lora_dropout=0.05,
            tinit=300,
            tfinal=600,
            deltaT=10,
            total_step=args.max_steps,
        ),
    )
    trainer = Trainer(
        model=model,
        args=TrainingArguments(args.out, max_steps=args.max_steps, per_device_train_batch_size=16, seed=args.seed),
        train_dataset=answers["train"],
        eval_dataset=answers["dev"],
        processing_class=tokenizer,
        compute_metrics=quadratic_kappa,
        callbacks=[RankAllocationCallback(log_every=50), MetricsWriter(args.out)],
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
