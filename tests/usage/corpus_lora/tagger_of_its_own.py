"""Lightning NER tagger over XLM-R with its own tagging layer."""
import lightning as L
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModel


class Tagger(nn.Module):
    def __init__(self, name, n_tags):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(name, add_pooling_layer=False)
        self.drop = nn.Dropout(0.1)
        self.tag_out = nn.Linear(self.encoder.config.hidden_size, n_tags)

    def forward(self, input_ids, attention_mask):
        h = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.tag_out(self.drop(h))


class NerModule(L.LightningModule):
    def __init__(self, name="FacebookAI/xlm-roberta-base", n_tags=9, lr=3e-4):
        super().__init__()
        self.save_hyperparameters()
        lora = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "key", "value"], lora_dropout=0.1)
        self.net = get_peft_model(Tagger(name, n_tags), lora)
        self.loss = nn.CrossEntropyLoss(ignore_index=-100)

    def training_step(self, batch, _):
        logits = self.net(batch["input_ids"], batch["attention_mask"])
        loss = self.loss(logits.flatten(0, 1), batch["labels"].flatten())
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(filter(lambda p: p.requires_grad, self.parameters()), lr=self.hparams.lr)


if __name__ == "__main__":
    from ner_data import WikiAnn

    L.Trainer(max_epochs=5, devices=2, strategy="ddp").fit(NerModule(), WikiAnn("nl"))
