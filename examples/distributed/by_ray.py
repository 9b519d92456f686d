from pathlib import Path

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from restart import run


def work(config):
    run(Path(config["folder"]))


TorchTrainer(
    work,
    train_loop_config={"folder": str(Path("ray").resolve())},  # workers run in a folder of Ray's
    scaling_config=ScalingConfig(num_workers=2),
    run_config=RunConfig(
        storage_path=str(Path("ray").resolve()), failure_config=FailureConfig(max_failures=3)
    ),
).fit()
