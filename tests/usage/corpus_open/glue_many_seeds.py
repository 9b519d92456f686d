import argparse

import torch
from peft import AdaLoraConfig, LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForSequenceClassification, set_seed

from glue_data import glue_loader, score


def try_allocate(model, step):
    """PEFT moved the method about; take the first object that has it."""
    base = getattr(model, "base_model", None)
    for candidate in (model, base, getattr(base, "model", None)):
        if candidate is not None and hasattr(candidate, "update_and_allocate"):
            candidate.update_and_allocate(step)
            return True
    return False


def adapted(kind, labels, total):
    base = AutoModelForSequenceClassification.from_pretrained("microsoft/deberta-v3-base", num_labels=labels)
    modules = ["query_proj", "key_proj", "value_proj"]
    if kind == "lora":
        config = LoraConfig(task_type=TaskType.SEQ_CLS, r=8, lora_alpha=16, target_modules=modules)
    else:
        config = AdaLoraConfig(
            task_type=TaskType.SEQ_CLS, init_r=12, target_r=8, lora_alpha=16, target_modules=modules,
            tinit=max(1, total // 10), tfinal=max(1, total // 5), deltaT=max(1, total // 100), total_step=total)
    return get_peft_model(base, config).cuda()


def one_run(task, seed, args):
    set_seed(seed)
    train, dev, labels = glue_loader(task, batch_size=32)
    model = adapted(args.kind, labels, len(train) * args.epochs)
    optimizer = torch.optim.AdamW(filter(lambda w: w.requires_grad, model.parameters()), lr=args.lr)
    gstep = 0
    for _ in range(args.epochs):
        model.train()
        for batch in train:
            optimizer.zero_grad(set_to_none=True)
            model(**batch.to("cuda")).loss.backward()
            optimizer.step()
            try_allocate(model, gstep)
            gstep += 1
    return score(model, dev)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="adalora", choices=["lora", "adalora"])
    parser.add_argument("--tasks", nargs="+", default=["rte", "mrpc", "cola"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()
    for task in args.tasks:
        print(task, [one_run(task, seed, args) for seed in args.seeds])
