"""Commentary for chess positions from an endless stream of games."""
import torch
from peft import AdaLoraConfig, TaskType, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

from chess_games import GameStream, pad_moves

TOTAL = 3000


def endless(loader):
    while True:
        yield from loader


def main() -> None:
    base = AutoModelForCausalLM.from_pretrained("HuggingFaceTB/SmolLM2-135M")
    config = AdaLoraConfig(
        task_type=TaskType.CAUSAL_LM,
        init_r=12,
        target_r=6,
        lora_alpha=24,
        tinit=200,
        tfinal=1200,
        deltaT=10,
        total_step=TOTAL,
        target_modules=["q_proj", "v_proj"],
    )
    model = get_peft_model(base, config).cuda()
    adapters = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(adapters, lr=2e-4)
    batches = endless(DataLoader(GameStream("games.pgn"), batch_size=8, collate_fn=pad_moves))
    model.train()
    for step in range(TOTAL):
        batch = next(batches)
        optimizer.zero_grad(set_to_none=True)
        loss = model(**batch.to("cuda")).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapters, 1.0)
        optimizer.step()
        model.base_model.update_and_allocate(step)
        if step % 100 == 0:
            print(f"{step:5d} {loss.item():.4f}")
    model.save_pretrained("commentary")


if __name__ == "__main__":
    main()
