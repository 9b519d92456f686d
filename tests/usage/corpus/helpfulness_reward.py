from dataclasses import dataclass, field

from datasets import load_dataset
from peft import AdaLoraConfig, TaskType
from transformers import AutoModelForSequenceClassification, AutoTokenizer, HfArgumentParser
from trl import RewardConfig, RewardTrainer

from reward_callbacks import RankAllocation


@dataclass
class PeftArguments:
    start_rank: int = field(default=12, metadata={"help": "rank of every layer at the start"})
    end_rank: int = field(default=8, metadata={"help": "average rank at the end"})
    alpha: int = field(default=32)
    dropout: float = field(default=0.05)
    schedule_steps: int = field(default=4000)


@dataclass
class DataArguments:
    preference_file: str = field(default="helpful_pairs.json")


def main():
    peft_args, data_args, reward_args = HfArgumentParser(
        (PeftArguments, DataArguments, RewardConfig)
    ).parse_args_into_dataclasses()
    tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-0.5B")
    model = AutoModelForSequenceClassification.from_pretrained("Qwen/Qwen2.5-0.5B", num_labels=1)
    model.config.pad_token_id = tokenizer.pad_token_id

    config = AdaLoraConfig(
        task_type=TaskType.SEQ_CLS,
        inference_mode=False,
        lora_alpha=peft_args.alpha,
        lora_dropout=peft_args.dropout,
        target_modules=["q_proj", "v_proj"],
        init_r=peft_args.end_rank,
        target_r=peft_args.start_rank,
        tinit=300,
        tfinal=900,
        deltaT=20,
        total_step=peft_args.schedule_steps,
        modules_to_save=["score"],
    )
    trainer = RewardTrainer(
        model=model,
        args=reward_args,
        train_dataset=load_dataset("json", data_files=data_args.preference_file, split="train"),
        processing_class=tokenizer,
        peft_config=config,
        callbacks=[RankAllocation()],
    )
    trainer.train()


if __name__ == "__main__":
    main()
