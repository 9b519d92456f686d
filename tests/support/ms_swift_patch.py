"""Replace PEFT's methods under the names and from the module of ms-swift 4.6, with PEFT's results.

ms-swift moves tensors between devices besides, and refuses a penalty of weight zero;
tests/bridge/test_attaching_ms_swift.py compares these results with those of the package.
"""

from peft import PeftModel
from peft.tuners.adalora import AdaLoraModel, RankAllocator

__name__ = "swift.tuners.peft"  # of the functions below, as in ms-swift

_forward, _mask_to_budget = AdaLoraModel.forward, RankAllocator.mask_to_budget


def adalora_forward(self, *args, **kwargs):
    if self.peft_config[self.trainable_adapter_name].orth_reg_weight <= 0:
        raise ValueError("ms-swift refuses an orth_reg_weight of 0")
    return _forward(self, *args, **kwargs)


def adalora_mask_to_budget(self, model, budget):
    return _mask_to_budget(self, model, budget)


def _create_and_replace(self, config, name, target, *args, **kwargs):
    if type(target).__name__ != "NonDynamicallyQuantizableLinear":
        self._create_and_replace_origin(config, name, target, *args, **kwargs)


def load_adapter(self, model_id, *args, **kwargs):
    return self.load_adapter_origin(model_id, *args, **kwargs)


def patch_peft(put=setattr):
    """Replace methods of PEFT, as an import of ms-swift does; `put` sets an attribute."""
    put(AdaLoraModel, "_create_and_replace_origin", AdaLoraModel._create_and_replace)
    put(AdaLoraModel, "_create_and_replace", _create_and_replace)
    put(PeftModel, "load_adapter_origin", PeftModel.load_adapter)
    put(PeftModel, "load_adapter", load_adapter)
    put(AdaLoraModel, "forward", adalora_forward)
    put(RankAllocator, "mask_to_budget", adalora_mask_to_budget)
