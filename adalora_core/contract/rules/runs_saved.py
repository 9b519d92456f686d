"""Family ADA8xx: faults of what a training run saves, exports or merges."""

from __future__ import annotations

from adalora_core.contract.rules.runs import RunRule


class BudgetNotReached(RunRule):
    code = "ADA811"
    summary = "an adapter is saved, exported or merged before the target budget is reached"
    why = (
        "What is written has more triplets than the configuration says. A checkpoint to resume "
        "from is no result: mark it with save_training_state=True. Trainer's checkpoints are "
        "known by the names of their folders."
    )
    bad = 'model.update_and_allocate(35)  # of 400\nmodel.save_pretrained("result")\n'
    good = 'model.save_pretrained("checkpoint", save_training_state=True)\n'
    hint = (
        "train to total_step, or call model.finalize(); save a checkpoint to resume from with "
        "save_training_state=True"
    )


class BestCheckpointUnpruned(RunRule):
    code = "ADA812"
    summary = "load_best_model_at_end loads a checkpoint from before the budget was reached"
    why = (
        "The best checkpoint is often an early one, with most of its triplets: it has not paid for "
        "its size yet."
    )
    bad = "TrainingArguments(load_best_model_at_end=True)\n"
    good = "TrainingArguments(load_best_model_at_end=False)\n"
    hint = "compare checkpoints of the final phase only, or turn load_best_model_at_end off"


class ParametersNotFinite(RunRule):
    code = "ADA819"
    summary = "an adapter is saved whose parameters are not finite"
    why = "The saved adapter returns NaN, and a run that resumes from it cannot recover."
    bad = 'loss = model(**batch).loss / 0\nloss.backward()\nmodel.save_pretrained("result")\n'
    hint = "resume from a checkpoint of before, with a lower learning rate"


class FileLacksTrainedWeights(RunRule):
    code = "ADA823"
    summary = "a file lacks weights that the model was trained with"
    why = (
        "A file holds the kept triplets of an adapter, the modules of modules_to_save and the "
        "biases that its configuration names. What is loaded has other outputs if more was "
        "unfrozen by hand, if a state_dict has brought dropped triplets back, as an average or a "
        "copy of the best weights does, or if another adapter was trained."
    )
    bad = 'model.load_state_dict(average)\nmodel.save_pretrained("result")\n'
    good = (
        "model.load_state_dict(average)\nmodel.finalize()  # now evaluate\n"
        'model.save_pretrained("result")\n'
    )
    hint = (
        "name what is trained in modules_to_save, or freeze it; call model.finalize() after "
        "load_state_dict, and evaluate again; save the adapter that was trained"
    )
