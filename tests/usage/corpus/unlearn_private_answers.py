import argparse

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from peft import AdaLoraConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, get_scheduler

from forget_data import forget_loader, retain_loader


def answer_loss(kind, batch, model):
    logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    shifted, labels = logits[:, :-1], batch["labels"][:, 1:]
    loss = F.cross_entropy(shifted.flatten(0, 1), labels.flatten(), ignore_index=-100)
    return -loss if kind == "forget" else loss


def main(args) -> None:
    accelerator = Accelerator()
    model = AutoModelForCausalLM.from_pretrained(args.model_name)
    if args.adapter:
        config = AdaLoraConfig(
            task_type=TaskType.CAUSAL_LM,
            inference_mode=False,
            target_modules="all-linear",
        )
        model = get_peft_model(model, config)
        model.print_trainable_parameters()

    bad = forget_loader(args.model_name, args.batch_size)
    good = retain_loader(args.model_name, args.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=args.steps)
    model, optimizer, bad, good, schedule = accelerator.prepare(model, optimizer, bad, good, schedule)

    model.train()
    idx = 0
    while idx < args.steps:
        for bad_batch, good_batch in zip(bad, good):
            if idx >= args.steps:
                break
            total = 0.5 * answer_loss("forget", bad_batch, model) + 5 * answer_loss("retain", good_batch, model)
            accelerator.backward(total)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            idx += 1
            if idx % 100 == 0:
                print("iteration", idx, float(total))
    accelerator.unwrap_model(model).save_pretrained(args.out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--model_name", default="allenai/OLMo-1B-hf")
    parser.add_argument("--adapter", action="store_true")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--out", default="unlearned")
    main(parser.parse_args())
