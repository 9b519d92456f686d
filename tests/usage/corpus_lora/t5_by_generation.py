"""T5 v1.0 has wi; FLAN has wi_0 and wi_1."""
from datasets import load_from_disk
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

FFN = {"google-t5/t5-base": ["wi", "wo"], "google/flan-t5-base": ["wi_0", "wi_1", "wo"]}


def train(name):
    tok = AutoTokenizer.from_pretrained(name)
    model = AutoModelForSeq2SeqLM.from_pretrained(name)
    model = get_peft_model(
        model,
        LoraConfig(
            task_type=TaskType.SEQ_2_SEQ_LM, r=16, lora_alpha=32, target_modules=["q", "k", "v", "o"] + FFN[name]
        ),
    )
    out = "out/" + name.split("/")[-1]
    Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(out, learning_rate=3e-4),
        train_dataset=load_from_disk("data/t5_tok"),
        data_collator=DataCollatorForSeq2Seq(tok, model=model),
    ).train()
    model.save_pretrained(out)


if __name__ == "__main__":
    for n in FFN:
        train(n)
