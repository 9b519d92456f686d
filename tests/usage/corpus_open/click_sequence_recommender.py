import torch
from peft import AdaLoraConfig, AdaLoraModel, LoraConfig, TaskType, get_peft_model
from torch import nn
from transformers import BertConfig, BertModel


class ClickRecommender(nn.Module):
    """Predicts the next item from a session of clicks."""

    def __init__(self, n_items, how="lora", rank=8, dropout=0.1):
        super().__init__()
        self.items = nn.Embedding(n_items, 128, padding_idx=0)
        self.backbone = BertModel(BertConfig(hidden_size=128, num_hidden_layers=4, num_attention_heads=4))
        if how == "lora":
            lora = LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, r=rank, lora_alpha=32, lora_dropout=dropout)
            self.backbone = get_peft_model(self.backbone, lora)
        elif how == "adaptive":
            peft_config = AdaLoraConfig(
                task_type=TaskType.FEATURE_EXTRACTION, r=rank, lora_alpha=32, lora_dropout=dropout
            )
            self.backbone = AdaLoraModel(self.backbone, peft_config, adapter_name="default")
        else:
            raise NotImplementedError(how)

    def forward(self, clicks):
        hidden = self.backbone(inputs_embeds=self.items(clicks)).last_hidden_state
        return hidden[:, -1] @ self.items.weight.T

    def fit(self, sessions, epochs=10, lr=1e-3):
        criterion = nn.CrossEntropyLoss(ignore_index=0)
        optimizer = torch.optim.AdamW([p for p in self.parameters() if p.requires_grad], lr=lr)
        for epoch in range(epochs):
            self.train()
            total = 0.0
            for clicks, target in sessions:
                optimizer.zero_grad()
                loss = criterion(self(clicks), target)
                loss.backward()
                optimizer.step()
                total += loss.item()
            print(f"epoch {epoch}: {total / len(sessions):.4f}")
        return self
