import logging
import math
import sys
from dataclasses import dataclass, field

from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding,
                          HfArgumentParser, Trainer, TrainerCallback, TrainingArguments)

logger = logging.getLogger(__name__)


@dataclass
class ModelArgs:
    model_name: str = field(default="microsoft/deberta-v3-small")
    init_r: int = field(default=12)
    target_r: int = field(default=6)
    warm_share: float = field(default=0.1, metadata={"help": "share of the steps before pruning begins"})
    final_share: float = field(default=0.3, metadata={"help": "share of the steps with fixed ranks"})


class AdaLoraCallback(TrainerCallback):
    def on_train_begin(self, args, state, control, model=None, **kwargs):
        planned = model.peft_config["default"].total_step
        if planned != state.max_steps:
            raise RuntimeError(f"AdaLoRA schedule is for {planned} steps, the trainer makes {state.max_steps}")

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)


def count_updates(n, args):
    per_update = args.per_device_train_batch_size * args.world_size
    batches = math.ceil(n / per_update)
    return math.ceil(batches / args.gradient_accumulation_steps) * math.ceil(args.num_train_epochs)


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)
    margs, targs = HfArgumentParser((ModelArgs, TrainingArguments)).parse_args_into_dataclasses()

    tok = AutoTokenizer.from_pretrained(margs.model_name)
    ds = load_dataset("glue", "qnli")
    ds = ds.map(lambda b: tok(b["question"], b["sentence"], truncation=True, max_length=256), batched=True)

    total = count_updates(len(ds["train"]), targs)
    targs.max_steps = total        # both sides hold to the same number
    logger.info("%d optimizer steps", total)

    config = AdaLoraConfig(
        task_type=TaskType.SEQ_CLS,
        init_r=margs.init_r,
        target_r=margs.target_r,
        tinit=int(margs.warm_share * total),
        tfinal=int(margs.final_share * total),
        deltaT=10,
        total_step=total,
        target_modules=["query_proj", "value_proj"],
    )
    model = AutoModelForSequenceClassification.from_pretrained(margs.model_name, num_labels=2)
    model = get_peft_model(model, config)

    trainer = Trainer(
        model=model,
        args=targs,
        train_dataset=ds["train"],
        eval_dataset=ds["validation"],
        data_collator=DataCollatorWithPadding(tok),
        callbacks=[AdaLoraCallback()],
    )
    trainer.train()
    logger.info(trainer.evaluate())
    model.save_pretrained(targs.output_dir)
    tok.save_pretrained(targs.output_dir)


if __name__ == "__main__":
    main()
