"""Multi-GPU with accelerate: accelerate launch --multi_gpu i15.py"""
import torch
from accelerate import Accelerator
from datasets import load_dataset
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

MODEL_ID = "bigscience/bloomz-560m"
NUM_EPOCHS = 3


def get_loader(tok):
    ds = load_dataset("ought/raft", "twitter_complaints", split="train")
    ds = ds.map(lambda r: tok("Tweet text : " + r["Tweet text"] + " Label : " + str(r["Label"])),
                remove_columns=ds.column_names)
    return DataLoader(ds, batch_size=1, shuffle=True,
                      collate_fn=DataCollatorForLanguageModeling(tok, mlm=False))


def main():
    accelerator = Accelerator()
    tok = AutoTokenizer.from_pretrained(MODEL_ID)
    train_dl = accelerator.prepare(get_loader(tok))
    total_step = len(train_dl) * NUM_EPOCHS

    peft_config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM, init_r=12, target_r=8,
        tinit=total_step // 8, tfinal=total_step // 4, deltaT=1,
        total_step=total_step, target_modules=["query_key_value"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(MODEL_ID), peft_config)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    model, optimizer = accelerator.prepare(model, optimizer)

    global_step = 0
    bar = tqdm(total=total_step, disable=not accelerator.is_local_main_process)
    for epoch in range(NUM_EPOCHS):
        model.train()
        total_loss = 0
        for batch in train_dl:
            outputs = model(**batch)
            loss = outputs.loss
            total_loss += loss.detach().float()
            accelerator.backward(loss)
            optimizer.step()
            if accelerator.is_main_process:
                accelerator.unwrap_model(model).base_model.update_and_allocate(global_step)
            optimizer.zero_grad()
            global_step += 1
            bar.update(1)
        accelerator.print(f"epoch={epoch} loss={total_loss / len(train_dl)}")

    accelerator.wait_for_everyone()
    accelerator.unwrap_model(model).save_pretrained("raft-adapter", is_main_process=accelerator.is_main_process)


if __name__ == "__main__":
    main()
