from accelerate import Accelerator
from datasets import load_dataset
from peft import AdaLoraConfig, get_peft_model
from torch.optim import AdamW
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling

accelerator = Accelerator(gradient_accumulation_steps=2)
tokenizer = AutoTokenizer.from_pretrained("uer/gpt2-chinese-poem")
poems = load_dataset("text", data_files="tang.txt", split="train")
poems = poems.map(lambda r: tokenizer(r["text"], truncation=True, max_length=64), remove_columns=["text"])
loader = DataLoader(poems, batch_size=32, shuffle=True, collate_fn=DataCollatorForLanguageModeling(tokenizer, mlm=False))

config = AdaLoraConfig(
    task_type="CAUSAL_LM",
    target_modules=["c_attn"],
    fan_in_fan_out=True,
    init_r=8,
    target_r=4,
    lora_alpha=16,
    tinit=300,
    tfinal=900,
    deltaT=15,
    total_step=4500,
)
model = get_peft_model(AutoModelForCausalLM.from_pretrained("uer/gpt2-chinese-poem"), config)
optimizer = AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-3)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

update = 0
for epoch in range(6):
    for batch in loader:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if accelerator.sync_gradients:
                update += 1
                accelerator.unwrap_model(model).base_model.update_and_allocate(update)
    accelerator.print(f"epoch {epoch} update {update} loss {loss.item():.3f}")

accelerator.unwrap_model(model).save_pretrained("poems-adapter")
