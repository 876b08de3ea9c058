"""Train a cell of the paper's grid, and first whatever it starts from.

python train.py                                          net D, scale jitter, on the embedded digits
python train.py model=E train_scale=S384 data=folder data.root=/path/to/photos
python train.py ablation=depth                           a named plan: conf/ablation/
python train.py -m model=A,B,C,D,E train_scale=S256      a sweep
python train.py model=D train_scale=jitter data=imagenet data.root=/path/to/ILSVRC2012 trainer=ddp

The same command again resumes what was interrupted and does only what is missing. Options: conf/, src/vgg/config.py.
"""

import hydra
from omegaconf import DictConfig

from vgg.commands import train as commands_train
from vgg.core.compose import typed
from vgg.core.config import TrainConfig
from vgg.launch import sweep


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> None:
    sweep.job(lambda: commands_train.train(typed(cfg, TrainConfig)))


if __name__ == "__main__":
    sweep.start(main)
