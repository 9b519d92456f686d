"""Teach NLLB a language it has no code for."""
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)


class NewLanguage:
    base = "facebook/nllb-200-distilled-600M"

    def __init__(self, code, pivot="deu_Latn"):
        self.code = code
        self.tok = AutoTokenizer.from_pretrained(self.base, src_lang=pivot)
        self.model = AutoModelForSeq2SeqLM.from_pretrained(self.base)
        if self.tok.add_tokens([code], special_tokens=True):
            self.model.resize_token_embeddings(len(self.tok))

    def adapt(self):
        lora = LoraConfig(
            r=32,
            lora_alpha=32,
            target_modules=["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
            task_type="SEQ_2_SEQ_LM",
        )
        self.model = get_peft_model(self.model, lora)
        return self

    def encode(self, row):
        out = self.tok(row["de"], truncation=True, max_length=200)
        out["labels"] = self.tok(self.code + row["new"], add_special_tokens=False)["input_ids"] + [2]
        return out

    def fit(self, path):
        ds = load_dataset("json", data_files=path, split="train").map(self.encode)
        args = Seq2SeqTrainingArguments("out/nllb", learning_rate=2e-4, num_train_epochs=10)
        Seq2SeqTrainer(
            self.model, args, train_dataset=ds, data_collator=DataCollatorForSeq2Seq(self.tok, self.model)
        ).train()
        self.model.save_pretrained("out/nllb")


if __name__ == "__main__":
    NewLanguage("frr_Latn").adapt().fit("frr.jsonl")
