"""Family ADA8xx: faults of a run, found by training, and of saved files, found by the command."""

from __future__ import annotations

from textwrap import indent
from typing import ClassVar

from adalora_core.config.findings import Severity
from adalora_core.config.rules.base import Rule

_LOOP = """\
for step, batch in enumerate(batches):
    model(**batch).loss.backward()
    optimizer.step()
    model.update_and_allocate(step)
    optimizer.zero_grad()
model.finalize()
"""


class RunRule(Rule):
    """A fault of a run; no configuration shows it.

    A warning is a `RunWarning`. An error is an exception, since going on can only waste the run.
    """

    language = "python"
    needs = "run"
    severity: ClassVar[Severity] = "warning"
    good = _LOOP


class AdaptedTwice(RunRule):
    code = "ADA801"
    severity = "error"
    summary = "a model that has adapters already is wrapped again"
    why = """The outer model would adapt the layers inside the adapters of the inner one, or train
    beside adapters that it neither saves nor prunes."""
    bad = "model = get_peft_model(model, config)\nmodel = get_peft_model(model, other)\n"
    good = (
        "model = get_peft_model(base, config)\n"
        'model.add_adapter("other", other)\nmodel.set_adapter("other")\n'
    )
    hint = "call model.add_adapter(name, config) and model.set_adapter(name)"


class OptimizerWithoutFactors(RunRule):
    code = "ADA802"
    severity = "error"
    summary = "no optimizer holds some factors of the adapter, or what is trained beside them"
    why = """What no optimizer holds does not learn. The usual causes are an optimizer that was
    made before the adapter, or before the parameters were replaced, and a filter by "lora_", which
    leaves a head of modules_to_save out and is reported at a save. In a loop of your own it is a
    warning at the second step, for allocate_on_step and Trainer an error."""
    _wrap = "model = get_peft_model(base, config)\n"
    bad = "optimizer = torch.optim.AdamW(base.parameters())\n" + _wrap
    good = _wrap + "optimizer = torch.optim.AdamW(model.parameters())\n"
    hint = "make the optimizer from all of model.parameters() after the adapter was added"


class AllocationNotAfterStep(RunRule):
    code = "ADA803"
    summary = "the gradients change between optimizer.step() and update_and_allocate"
    why = """The importance of a triplet is computed from the parameters after a step and the
    gradients of that step. Before the step, dropped triplets come back; after zero_grad there is no
    gradient to read."""
    bad = _LOOP.replace("    optimizer.zero_grad()\n", "").replace(
        "    model.update", "    optimizer.zero_grad()\n    model.update"
    )
    hint = """call update_and_allocate directly after optimizer.step() and before
    optimizer.zero_grad()"""


class AllocationPerMicroBatch(RunRule):
    code = "ADA804"
    summary = "update_and_allocate is called several times for one step of the optimizer"
    why = """Gradients accumulate over the micro-batches, so the first of them count several times,
    and the schedule ends before the run does: its steps are optimizer steps."""
    bad = """\
for micro_step, batch in enumerate(batches):
    model(**batch).loss.backward()
    model.update_and_allocate(micro_step)
    if (micro_step + 1) % 4 == 0:
        optimizer.step()
        optimizer.zero_grad()
"""
    hint = "call update_and_allocate once per optimizer.step(), with the number of that step"


class NoGradient(RunRule):
    code = "ADA805"
    summary = "no factor had a gradient that is not zero over a whole allocation"
    why = """Ranks are then allocated by position or by what the averages still remember. Causes are
    a zero_grad before the call, a loss that does not depend on the adapter, and engines that hide
    gradients."""
    bad = _LOOP.replace("    model(**batch).loss.backward()\n", "    loss = model(**batch).loss\n")
    hint = "check that loss.backward() reaches the factors, and that zero_grad comes last"


class LossNotFinite(RunRule):
    code = "ADA806"
    errors = ("NaNs detected in the merged weights",)
    summary = "the optimizer makes steps with gradients that are not finite"
    why = """The parameters become NaN with the first such step, and nothing that follows can repair
    them. Of steps that a gradient scaler skips, 30 in a row are reported: the loss is never finite
    then, or the data is not. PEFT notices at safe_merge."""
    bad = "(model(**batch).loss / 0).backward()\noptimizer.step()\n"
    hint = """stop the run; look for the cause in the data and the loss, lower the learning rate or
    clip, and resume from a checkpoint before it"""


class SelectionMatchesNothing(RunRule):
    code = "ADA807"
    summary = "an entry that selects modules matches none of the model"
    why = "The adapter is smaller or larger than the configuration seems to ask for."
    bad = 'AdaLoraConfig(target_modules=["q_proj", "v_prj"], total_step=1000)\n'
    good = 'AdaLoraConfig(target_modules=["q_proj", "v_proj"], total_step=1000)\n'
    hint = "correct the entry, or remove it"


class StepsOutOfOrder(RunRule):
    code = "ADA808"
    errors = ("mask_using_rank_pattern ... 'NoneType' object has no attribute 'keys'",)
    summary = """the steps given to update_and_allocate go back, repeat, jump, start above 1 or pass
    total_step"""
    why = """The schedule follows the number: with one that starts again in each epoch the final
    phase never comes, with one that jumps, allocations are missed, and beyond total_step the
    schedule is over, as it is for the adapter of a finished run. Steps counted from 1, as in an
    example of PEFT, are accepted: each phase then begins one step earlier. A first call in the
    final phase finds no pattern, and PEFT fails."""
    bad = "for epoch in range(3):\n" + indent(_LOOP.removesuffix("model.finalize()\n"), "    ")
    hint = """count optimizer steps from 0 to total_step - 1 over all epochs, on from a resumed
    step; set total_step to the optimizer steps of the whole run"""


class ResumedWithoutState(RunRule):
    code = "ADA809"
    summary = "an unfinished run is resumed without its training state"
    why = """The averages, the dropped triplets and the step are missing, so the resumed run is
    another run than the one that stopped."""
    bad = """\
model.save_pretrained("stopped", save_training_state=False)
model = AdaLoraModel.from_pretrained(base, "stopped", is_trainable=True)
"""
    good = bad.replace("False", "True")
    hint = "restore the whole folder, saved with save_training_state=True, or train from step 0"


class TwoHooks(RunRule):
    code = "ADA810"
    severity = "error"
    summary = "two hooks of this package allocate the ranks of one adapter"
    why = """Every step would count twice. A call in a loop or a callback of your own, beside a
    hook, is the warning ADA808."""
    bad = "allocate_on_step(optimizer, model)\nallocate_on_step(optimizer, model)\n"
    good = "handle = allocate_on_step(optimizer, model)\n"
    hint = "keep one of allocate_on_step and AdaLoraCallback; handle.remove() removes a hook"


class AllocationNotCalled(RunRule):
    code = "ADA813"
    summary = "the optimizer makes steps without a call of update_and_allocate"
    why = """Without the call no rank is allocated: the adapter keeps init_r triplets everywhere.
    With one call for several steps the gradients of the others count nowhere, and the schedule is
    longer than the run."""
    bad = _LOOP.replace("    model.update_and_allocate(step)\n", "")
    hint = """call model.update_and_allocate(step) after optimizer.step() and before
    optimizer.zero_grad(), or use allocate_on_step or AdaLoraCallback"""


class PenaltyMissing(RunRule):
    code = "ADA814"
    summary = "orth_reg_weight is above 0, and the orthogonality penalty is in no loss"
    why = """The scores compare triplets as if A and B were orthogonal. A model adds the penalty to
    outputs.loss in training mode; a loss of your own, or of SFTTrainer, has to add it."""
    bad = "loss_of(model(x)).backward()\n"
    good = "(loss_of(model(x)) + model.orthogonality_penalty()).backward()\n"
    hint = """add model.orthogonality_penalty() to the loss, or set orth_reg_weight to 0; under
    Trainer and SFTTrainer, AdaLoraCallback().add_to(trainer) adds it"""


class AdapterNames(RunRule):
    code = "ADA815"
    severity = "error"
    summary = "a forward is called with adapter_names"
    why = "AdaLoRA has no batches that mix adapters, so the argument would be ignored."
    bad = 'model(**batch, adapter_names=["first", "second"])\n'
    good = 'model.set_adapter("first")\nmodel(**batch)\n'
    hint = "call model.set_adapter(name) and run each part of the batch on its own"


class TrainingWhileMerged(RunRule):
    code = "ADA816"
    severity = "error"
    summary = "a model is trained while its adapter is merged"
    why = "The forward uses the merged weights alone, so the factors get no gradient."
    bad = "model.merge_adapter()\nmodel.train()(**batch).loss.backward()\n"
    good = "model.unmerge_adapter()\nmodel.train()(**batch).loss.backward()\n"
    hint = "call model.unmerge_adapter() before training"


class NothingTrainable(RunRule):
    code = "ADA817"
    severity = "error"
    summary = "a model is trained, and no active adapter is trainable"
    why = """Nothing would be learned or allocated. Adapters are frozen where they are loaded
    without is_trainable, where a script freezes all parameters after it has wrapped the model, and,
    in a model of PEFT, where disable_adapter_layers was called."""
    bad = 'model = AdaLoraModel.from_pretrained(base, "adapter")\nmodel.update_and_allocate(0)\n'
    good = 'model = AdaLoraModel.from_pretrained(base, "adapter", is_trainable=True)\n'
    hint = """load the adapter with is_trainable=True, or call model.set_adapter(name), which
    unfreezes it; after disable_adapter_layers() call model.base_model.enable_adapter_layers();
    after merge_and_unload() or unload() add an adapter again"""


class ScheduleChanged(RunRule):
    code = "ADA818"
    severity = "error"
    summary = "fields of the schedule are assigned after the first step"
    why = "The budget would jump to that of another schedule in the middle of the run."
    bad = 'model.update_and_allocate(0)\nmodel.peft_config["default"].total_step = 500\n'
    good = 'model.peft_config["default"].total_step = 500\nmodel.update_and_allocate(0)\n'
    hint = "restore the value; assign fields before the first step, or start a new run"


class PenaltyCountedTwice(RunRule):
    code = "ADA820"
    summary = "the orthogonality penalty counts more than once in a step"
    why = """In training mode outputs.loss contains the penalty already: with
    model.orthogonality_penalty() added, the run has twice the orth_reg_weight of its configuration.
    add_orthogonality_gradient_() at each micro-batch has it once per micro-batch."""
    bad = "(model(**batch).loss + model.orthogonality_penalty()).backward()\n"
    good = "model(**batch).loss.backward()\n"
    hint = """add model.orthogonality_penalty() only to a loss of your own, not to outputs.loss, and
    call add_orthogonality_gradient_() once per step"""


class MatrixWithoutGradient(RunRule):
    code = "ADA821"
    errors = ("unsupported operand type(s) for *: 'Parameter' and 'NoneType'",)
    summary = "the loss never reaches an adapted matrix in the whole run"
    why = """The singular values had no gradient: the matrix has learned nothing, and has budget
    only where the others leave some. The forward never calls the module, its parent reads the
    weight itself (out_proj of torch.nn.MultiheadAttention), or a checkpoint with use_reentrant=True
    has an input that needs no gradient."""
    bad = 'model.gradient_checkpointing_enable({"use_reentrant": True})  # and a frozen embedding\n'
    good = 'model.gradient_checkpointing_enable({"use_reentrant": False})\n'
    hint = """remove the module from target_modules, or let the loss reach it: checkpoint with
    use_reentrant=False, or call model.enable_input_require_grads()"""


class AdapterDoesNotLearn(RunRule):
    code = "ADA822"
    summary = "steps of the optimizer leave the factors of the adapter as they were"
    why = """E is 0 at the start, so an adapter whose E does not change computes nothing. Causes are
    a learning rate of 0, from the start or long before the end, a schedule that counts other steps
    than the run's and never leaves its warm-up or is over early, factors that were frozen after the
    model was wrapped, and factors in bfloat16 or float16, where small updates are rounded away."""
    bad = "model = get_peft_model(base, config)\nmodel.requires_grad_(False)\n"
    good = "base.requires_grad_(False)\nmodel = get_peft_model(base, config)\n"
    hint = """unfreeze the factors with model.set_adapter(name); give them a learning rate above 0
    until the run ends, by a schedule of as many steps as the run has; keep them in float32"""


class ScheduleDoesNotFit(RunRule):
    code = "ADA824"
    summary = "the schedule ends before the run or after it"
    why = """total_step is not the number of steps that Trainer makes, or the run goes on after
    finalize(), which has chosen the kept set for good."""
    bad = "model.finalize()  # after step 20 of 60\nmodel.update_and_allocate(21)\n"
    hint = """set total_step to the optimizer steps of the run, or to "auto" under Trainer; call
    model.finalize() after the last step"""


class BudgetNotReached(RunRule):
    code = "ADA811"
    summary = "an adapter is saved, exported or merged before the target budget is reached"
    why = """The files hold more triplets than the configuration asks for. A checkpoint to resume
    from is not a result: mark it with save_training_state=True. Trainer's checkpoints are known by
    the names of their folders."""
    bad = 'model.update_and_allocate(35)  # of 400\nmodel.save_pretrained("result")\n'
    good = 'model.save_pretrained("checkpoint", save_training_state=True)\n'
    hint = """train to total_step, or call model.finalize(); save a checkpoint to resume from with
    save_training_state=True"""


class BestCheckpointUnpruned(RunRule):
    code = "ADA812"
    summary = "load_best_model_at_end loads a checkpoint from before the budget was reached"
    why = """The best checkpoint is often an early one, with most of its triplets: it has not paid
    for its size yet."""
    bad = "TrainingArguments(load_best_model_at_end=True)\n"
    good = "TrainingArguments(load_best_model_at_end=False)\n"
    hint = "compare checkpoints of the final phase only, or turn load_best_model_at_end off"


class ParametersNotFinite(RunRule):
    code = "ADA819"
    errors = ("NaNs detected in the merged weights",)
    summary = "an adapter is saved whose parameters are not finite"
    why = "The saved adapter returns NaN, and a run that resumes from it cannot recover."
    bad = 'loss = model(**batch).loss / 0\nloss.backward()\nmodel.save_pretrained("result")\n'
    hint = "resume from a checkpoint of before, with a lower learning rate"


class FileLacksTrainedWeights(RunRule):
    code = "ADA823"
    summary = "a file lacks weights that the model was trained with"
    why = """A file holds the kept triplets of an adapter, the modules of modules_to_save and the
    biases that its configuration names. The loaded model has other outputs if more was unfrozen by
    hand, if a state_dict has brought dropped triplets back, as an average or a copy of the best
    weights does, or if another adapter was trained."""
    bad = 'model.load_state_dict(average)\nmodel.save_pretrained("result")\n'
    good = bad.replace("model.save", "model.finalize()  # now evaluate\nmodel.save")
    hint = """name what is trained in modules_to_save, or freeze it; call model.finalize() after
    load_state_dict, and evaluate again; save the adapter that was trained"""


class GradientsNotCleared(RunRule):
    code = "ADA827"
    summary = "the gradients are never cleared between steps of the optimizer"
    why = """Each backward pass adds to what is there, so every step uses the sum of all gradients
    since the first one, and the scores of triplets are computed from these sums."""
    bad = _LOOP.replace("    optimizer.zero_grad()\n", "")
    hint = "call optimizer.zero_grad() once per step, after update_and_allocate"


class MergedStateLoaded(RunRule):
    code = "ADA828"
    summary = "the state_dict of a merged model is loaded beside its adapter"
    why = """The weights of the base layers contain the adapter already, and the loaded model adds
    it a second time."""
    bad = """\
model.merge_adapter()
torch.save(model.state_dict(), "model.pt")
other.load_state_dict(torch.load("model.pt"))
"""
    good = "model.un" + bad.removeprefix("model.")
    hint = "call model.unmerge_adapter() before the state is taken, and save it again"


_TRAINED_LORA = """\
model = get_peft_model(base, config)
Trainer(model, train_dataset=rows).train()
model.save_pretrained("adapter")
"""


class FileRule(Rule):
    """A fault of the tensors beside an `adapter_config.json`, which the command reads."""

    language = "python"
    needs = "file"
    good = _TRAINED_LORA


class TensorsDoNotFit(FileRule):
    code = "ADA825"
    summary = "the tensors of a saved LoRA adapter are not those of its configuration"
    why = """PEFT refuses a tensor of another shape, a rank or an alpha that is not a number, and a
    file without the tensors of modules_to_save. A missing factor stays fresh, with a warning, and
    one that fits no module is ignored without a word: the loaded model is not the trained one."""
    bad = _TRAINED_LORA + 'LoraConfig(r=8, target_modules=["q_proj"]).save_pretrained("adapter")\n'
    hint = "keep tensors and configuration of one save together"


class AdapterChangesNothing(FileRule):
    code = "ADA826"
    severity = "warning"
    summary = "a saved LoRA adapter changes nothing, or modules of it: a factor or alpha is zero"
    why = """LoRA begins with a factor of zeros, so it was saved before a step, or no step reached
    it: the optimizer does not hold it, or no gradient arrives. PEFT and servers load such an
    adapter without a word, and the model answers as its base does."""
    bad = 'model = get_peft_model(base, config)\nmodel.save_pretrained("adapter")\n'
    hint = "train the factors, and save after the training"
