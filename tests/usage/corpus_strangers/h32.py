"""Continue a finished AdaLoRA adapter on another data set with Trainer.

adapter_config.json has the final rank_pattern, the layers are loaded at their final
ranks; the budget is spent, therefore no allocation callback here.
"""
import sys

from datasets import load_dataset
from peft import PeftConfig, PeftModel
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments


def main(adapter: str, out: str) -> None:
    pc = PeftConfig.from_pretrained(adapter)
    if not getattr(pc, "rank_pattern", None):
        sys.exit("this adapter's budget was never finalised, refusing to continue")
    tok = AutoTokenizer.from_pretrained(pc.base_model_name_or_path)
    base = AutoModelForSeq2SeqLM.from_pretrained(pc.base_model_name_or_path)
    model = PeftModel.from_pretrained(base, adapter, is_trainable=True)
    model.print_trainable_parameters()

    ds = load_dataset("knkarthick/dialogsum", split="train")

    def enc(ex):
        return tok(["summarize: " + d for d in ex["dialogue"]], text_target=ex["summary"],
                   truncation=True, max_length=512)

    ds = ds.map(enc, batched=True, remove_columns=ds.column_names)
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=out, num_train_epochs=2, per_device_train_batch_size=8,
            learning_rate=2e-4, logging_steps=50, save_strategy="epoch",
        ),
        train_dataset=ds,
        data_collator=DataCollatorForSeq2Seq(tok, model=base),
    )
    trainer.train()
    model.save_pretrained(out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
