"""What every federated client does with its adapter before a round."""
import math

from transformers import TrainerCallback


class ClientRankCallback(TrainerCallback):
    def on_optimizer_step(self, args, state, control, **kwargs):
        kwargs["model"].base_model.update_and_allocate(state.global_step)
        return super().on_optimizer_step(args, state, control, **kwargs)


def updates_of_round(client):
    if client["max_steps"] > 0:
        return client["max_steps"]
    batches = len(client["dataset"]) / client["batch_size"]
    return math.ceil(batches / client["grad_accum_steps"]) * client["num_train_epochs"]


def fit_schedule(warm_share, tail_share, **client):
    """Spread the schedule over the steps of this client's round."""
    config = client["model"].base_model.peft_config["default"]
    n = updates_of_round(client)
    config.total_step = n
    config.tinit = int(warm_share * n)
    config.tfinal = int(tail_share * n)
    return config


def callbacks_for(config, others=()):
    found = list(others)
    if config.peft_type == "ADALORA":
        found.append(ClientRankCallback())
    return found
