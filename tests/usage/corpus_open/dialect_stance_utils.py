import torch.nn.functional as F
from peft import AdaLoraConfig, LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from transformers import AutoTokenizer


def smooth_loss(logits, target, epsilon=0.1, classes=3):
  hot = F.one_hot(target, num_classes=classes).float()
  return F.cross_entropy(logits, (1 - epsilon) * hot + epsilon / classes)


def wrap(model, which):
  if which == 0:
    print("full fine-tuning")
    return model
  elif which == 1:
    conf = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=["query", "value"])
  elif which == 2:
    conf = LoHaConfig(r=16, alpha=16, module_dropout=0.1, target_modules=["query", "value"])
  elif which == 3:
    conf = LoKrConfig(r=16, alpha=16, module_dropout=0.1, target_modules=["query", "value"])
  elif which == 4:
    conf = AdaLoraConfig(
      r=8,
      init_r=12,
      tinit=200,
      tfinal=1000,
      deltaT=10,
      target_modules=["query", "value"],
    )
  model = get_peft_model(model, conf)
  model.print_trainable_parameters()
  return model


def label_tokens(name, words=("ضد", "مع", "محايد")):
  tokenizer = AutoTokenizer.from_pretrained(name)
  return [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
