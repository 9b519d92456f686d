"""Train a German->English adapter, store it, and reload it for a BLEU check."""
import evaluate
import torch
from datasets import load_dataset
from peft import AdaLoraConfig, PeftModel, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, DataCollatorForSeq2Seq

BASE, OUT, EPOCHS = "t5-base", "deen-adapter", 2
tok = AutoTokenizer.from_pretrained(BASE)


def encode(b):
    x = tok(["translate German to English: " + t["de"] for t in b["translation"]], truncation=True, max_length=128)
    x["labels"] = tok(text_target=[t["en"] for t in b["translation"]], truncation=True, max_length=128)["input_ids"]
    return x


def train():
    ds = load_dataset("wmt16", "de-en", split="train[:60000]")
    ds = ds.map(encode, batched=True, remove_columns=["translation"])
    model = AutoModelForSeq2SeqLM.from_pretrained(BASE)
    dl = DataLoader(ds, 16, shuffle=True, collate_fn=DataCollatorForSeq2Seq(tok, model))
    total = len(dl) * EPOCHS
    model = get_peft_model(model, AdaLoraConfig(
        task_type="SEQ_2_SEQ_LM", init_r=12, target_r=8, tinit=400, tfinal=1500, deltaT=20,
        total_step=total, target_modules=["q", "k", "v", "o"])).cuda()
    opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    step = 0
    model.train()
    for _ in range(EPOCHS):
        for batch in dl:
            loss = model(**batch.to("cuda")).loss
            loss.backward()
            opt.step()
            model.base_model.update_and_allocate(step)
            opt.zero_grad()
            step += 1
    model.merge_and_unload()
    model.save_pretrained(OUT)


@torch.no_grad()
def check(n=200):
    base = AutoModelForSeq2SeqLM.from_pretrained(BASE)
    model = PeftModel.from_pretrained(base, OUT).cuda().eval()
    bleu = evaluate.load("sacrebleu")
    hyp, ref = [], []
    for r in load_dataset("wmt16", "de-en", split=f"test[:{n}]")["translation"]:
        ids = tok("translate German to English: " + r["de"], return_tensors="pt").to("cuda")
        hyp.append(tok.decode(model.generate(**ids, max_new_tokens=128)[0], skip_special_tokens=True))
        ref.append([r["en"]])
    return bleu.compute(predictions=hyp, references=ref)["score"]


if __name__ == "__main__":
    train()
    print("BLEU", check())
