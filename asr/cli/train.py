"""`asr-train`: train a recogniser."""

from asr.cli.arguments import run_command, split_arguments
from asr.cli.describe import TRAINING, describe_keys, describe_training, group_choices, read_options


def main(argv: list[str] | None = None) -> int:
    return run_command(_train, argv, usage=describe_training)


def _train(argv: list[str]) -> int:
    options = read_options(*TRAINING)
    if "--keys" in argv:
        print("\n".join(describe_keys(options)))
        return 0
    keys = [*(f"experiment={name}" for name in group_choices("experiment")), *(option.key for option in options)]
    arguments = split_arguments(argv, path_keys=[option.key for option in options if option.path], keys=keys)

    from asr.config import compose_config, set_keys
    from asr.training.options import TrainConfig

    config = compose_config("train", arguments, TrainConfig)
    if config.data.folder:
        from asr.training.own import open_folder, write_folder
        from asr.training.terminal import say

        own = open_folder(config, set_keys("train", arguments, TrainConfig))
        config = compose_config("train", arguments, TrainConfig, base=own.keys)
        write_folder(own, config)
        say("\n".join(own.told))

    from asr.training.train import train

    return train(config)
