import argparse

from peft import AdaLoraConfig, LoraConfig, TaskType, get_peft_model
from transformers import BertForSequenceClassification

parser = argparse.ArgumentParser()
parser.add_argument("--algo", default="adalora", choices=["lora", "adalora"])
parser.add_argument("--init_rank", type=int, default=4)
parser.add_argument("--target_rank", type=int, default=8)
parser.add_argument("--classes", type=int)
args = parser.parse_args()


def trainable(model):
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def get_model():
    if args.algo == "lora":
        config = LoraConfig(task_type=TaskType.SEQ_CLS, r=args.target_rank, lora_alpha=1, lora_dropout=0.1)
    else:
        config = AdaLoraConfig(
            peft_type="ADALORA",
            task_type=TaskType.SEQ_CLS,
            init_r=args.init_rank,
            target_r=args.target_rank,
            lora_alpha=1,
            lora_dropout=0.1,
        )
    bert = BertForSequenceClassification.from_pretrained("bert-base-uncased", num_labels=args.classes)
    bert = get_peft_model(bert, config)
    print(f"{trainable(bert):,} parameters to train")
    return bert
