"""Family ADA8xx: faults of the tensors of a saved LoRA adapter."""

from __future__ import annotations

from adalora_core.config.rules.base import Rule

_TRAINED = """\
model = get_peft_model(base, config)
Trainer(model, train_dataset=rows).train()
model.save_pretrained("adapter")
"""


class FileRule(Rule):
    """A fault of the tensors beside an `adapter_config.json`, which the command reads."""

    language = "python"
    needs = "file"
    good = _TRAINED


class TensorsDoNotFit(FileRule):
    code = "ADA825"
    summary = "the tensors of a saved LoRA adapter are not those of its configuration"
    why = """PEFT refuses a tensor of another shape. A missing one stays fresh, with a warning, and
    one that fits no module is ignored without a word: the loaded model is not the trained one."""
    bad = _TRAINED + 'LoraConfig(r=8, target_modules=["q_proj"]).save_pretrained("adapter")\n'
    hint = "keep tensors and configuration of one save together"


class AdapterChangesNothing(FileRule):
    code = "ADA826"
    severity = "warning"
    summary = "a saved LoRA adapter changes nothing, or modules of it: a factor is all zero"
    why = """LoRA begins with a factor of zeros, so it was saved before a step, or no step reached
    it: the optimizer does not hold it, or no gradient arrives. PEFT and servers load such an
    adapter without a word, and the model answers as its base does."""
    bad = 'model = get_peft_model(base, config)\nmodel.save_pretrained("adapter")\n'
    hint = "train the factors, and save after the training"
