"""What an import of ms-swift 4.6 does to PEFT's AdaLoRA; its two functions are word for word.

Source: modelscope/ms-swift, swift/tuners/peft.py (Apache 2.0).
"""

import torch
from peft import PeftModel
from peft.tuners.adalora import AdaLoraModel, RankAllocator

__name__ = "swift.tuners.peft"  # of the functions below, as in ms-swift


def adalora_forward(self, *args, **kwargs):
    from peft.utils.integrations import gather_params_ctx

    outputs = self.model.forward(*args, **kwargs)

    if (getattr(outputs, "loss", None) is not None) and isinstance(outputs.loss, torch.Tensor):
        # Calculate the orthogonal regularization
        orth_reg_weight = self.peft_config[self.trainable_adapter_name].orth_reg_weight

        if orth_reg_weight <= 0:
            raise ValueError("orth_reg_weight should be greater than 0. ")

        regu_loss = 0
        num_param = 0
        for n, p in self.model.named_parameters():
            if ("lora_A" in n or "lora_B" in n) and self.trainable_adapter_name in n:
                if p.shape == torch.Size([0]):
                    with gather_params_ctx(p, fwd_module=self):
                        para_cov = p @ p.T if "lora_A" in n else p.T @ p
                else:
                    para_cov = p @ p.T if "lora_A" in n else p.T @ p
                I = torch.eye(*para_cov.size(), out=torch.empty_like(para_cov))  # noqa: E741
                I.requires_grad = False
                num_param += 1
                if isinstance(regu_loss, torch.Tensor):
                    regu_loss = regu_loss.to(para_cov.device)
                regu_loss += torch.norm(para_cov - I, p="fro")
        if num_param > 0:  # noqa: SIM108 - as it is
            regu_loss = regu_loss / num_param
        else:
            regu_loss = 0
        if isinstance(regu_loss, torch.Tensor) and isinstance(outputs.loss, torch.Tensor):
            regu_loss = regu_loss.to(outputs.loss.device)
        outputs.loss += orth_reg_weight * regu_loss
    return outputs


def adalora_mask_to_budget(self, model, budget):  # noqa: C901 - as it is
    value_ipt = {}
    vector_ipt = {}
    triplet_ipt = {}
    # Get the importance score for A, E, B
    for n, p in model.named_parameters():  # noqa: B007 - as it is
        if f"lora_A.{self.adapter_name}" in n:
            entry_ipt = self._element_score(n)
            comb_ipt = torch.mean(entry_ipt, dim=1, keepdim=True)
            name_m = n.replace("lora_A", "%s")
            if name_m not in vector_ipt:
                vector_ipt[name_m] = [comb_ipt]
            else:
                vector_ipt[name_m].append(comb_ipt)
        if f"lora_B.{self.adapter_name}" in n:
            entry_ipt = self._element_score(n)
            comb_ipt = torch.mean(entry_ipt, dim=0, keepdim=False).view(-1, 1)
            name_m = n.replace("lora_B", "%s")
            if name_m not in vector_ipt:
                vector_ipt[name_m] = [comb_ipt]
            else:
                vector_ipt[name_m].append(comb_ipt)
        if f"lora_E.{self.adapter_name}" in n:
            entry_ipt = self._element_score(n)
            name_m = n.replace("lora_E", "%s")
            value_ipt[name_m] = entry_ipt

    all_score = []
    # Calculate the score for each triplet
    for name_m in vector_ipt:  # noqa: PLC0206 - as it is
        ipt_E = value_ipt[name_m]
        ipt_AB = torch.cat(vector_ipt[name_m], dim=1)
        sum_ipt = self._combine_ipt(ipt_E, ipt_AB)
        name_E = name_m % "lora_E"
        triplet_ipt[name_E] = sum_ipt.view(-1, 1)
        sum_ipt = sum_ipt.view(-1)
        if all_score:
            sum_ipt = sum_ipt.to(all_score[0].device)
        all_score.append(sum_ipt)

    # Get the threshold by ranking ipt
    mask_threshold = torch.kthvalue(
        torch.cat(all_score),
        k=self.init_bgt - budget,
    )[0].item()

    rank_pattern = {}
    # Mask the unimportant triplets
    with torch.no_grad():
        for n, p in model.named_parameters():
            if f"lora_E.{self.adapter_name}" in n:
                p.masked_fill_(triplet_ipt[n] <= mask_threshold, 0.0)
                rank_pattern[n] = (~(triplet_ipt[n] <= mask_threshold)).view(-1).tolist()
    return rank_pattern


def _create_and_replace_hook(self, peft_config, adapter_name, target, *args, **kwargs):
    if target.__class__.__name__ != "NonDynamicallyQuantizableLinear":
        self._create_and_replace_origin(peft_config, adapter_name, target, *args, **kwargs)


def load_adapter(self, model_id, *args, **kwargs):
    return self.load_adapter_origin(model_id, *args, **kwargs)


def patch_peft(put=setattr):
    """Replace methods of PEFT, as an import of ms-swift does; `put` sets an attribute."""
    put(AdaLoraModel, "_create_and_replace_origin", AdaLoraModel._create_and_replace)
    put(AdaLoraModel, "_create_and_replace", _create_and_replace_hook)
    put(PeftModel, "load_adapter_origin", PeftModel.load_adapter)
    put(PeftModel, "load_adapter", load_adapter)
    put(AdaLoraModel, "forward", adalora_forward)
    put(RankAllocator, "mask_to_budget", adalora_mask_to_budget)
