from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, ViTForImageClassification

from birds import NAMES, collate, rows


def make_model(checkpoint="google/vit-base-patch16-224-in21k"):
    base = ViTForImageClassification.from_pretrained(
        checkpoint, num_labels=len(NAMES), ignore_mismatched_sizes=True
    )
    config = LoraConfig(r=16, lora_alpha=16, target_modules=["query", "value"], lora_dropout=0.1, bias="none")
    return get_peft_model(base, config)


def main():
    model = make_model()
    args = TrainingArguments("birds", remove_unused_columns=False, learning_rate=5e-3, num_train_epochs=10)
    Trainer(model=model, args=args, train_dataset=rows, data_collator=collate).train()


if __name__ == "__main__":
    main()
