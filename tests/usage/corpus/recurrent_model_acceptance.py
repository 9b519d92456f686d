"""Does a checkpoint accept the common adapters? One step, save, reload, compare."""
import argparse
import tempfile

import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

TARGETS = ["r_proj", "k_proj", "v_proj", "o_proj"]


def config_for(method):
    if method == "lora":
        return LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=TARGETS)
    if method == "adalora":
        return AdaLoraConfig(
            task_type="CAUSAL_LM", init_r=4, target_r=2, lora_alpha=8, tinit=0, tfinal=8, total_step=40,
            target_modules=TARGETS,
        )
    if method == "ia3":
        return IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "v_proj"], feedforward_modules=[])
    raise ValueError(f"no check for {method}")


def logits(model, batch):
    model.eval()
    with torch.no_grad():
        return model(**batch).logits.float().cpu()


def accept(method, path, text, device):
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
    load = lambda: AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)
    model = get_peft_model(load(), config_for(method)).to(device)
    batch = tokenizer(text, return_tensors="pt").to(device)
    optimizer = torch.optim.AdamW((w for w in model.parameters() if w.requires_grad), lr=1e-3)
    out = model(**batch, labels=batch["input_ids"])
    out.loss.backward()
    optimizer.step()
    if method == "adalora":
        model.base_model.update_and_allocate(1)
    wanted = logits(model, batch)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        restored = logits(PeftModel.from_pretrained(load(), folder).to(device), batch)
    assert torch.allclose(wanted, restored, atol=1e-4), method


if __name__ == "__main__":
    cli = argparse.ArgumentParser()
    cli.add_argument("model")
    cli.add_argument("--device", default="cpu")
    cli.add_argument("--text", default="A recurrent state is")
    args = cli.parse_args()
    for method in ("lora", "adalora", "ia3"):
        accept(method, args.model, args.text, args.device)
        print(method, "accepted")
