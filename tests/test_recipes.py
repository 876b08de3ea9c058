"""Every value of data=imagenet and of each net's recipe beside its source: a table of what the publications state."""

from dataclasses import asdict
from typing import NamedTuple

import pytest
import torch
from conftest import composed

from vgg.core.catalogue import MODELS, OF_TABLE_1
from vgg.data.imagenet import check
from vgg.runs import estimate, weights
from vgg.training import learning_rate

S256 = {"name": "256", "smin": 256, "smax": 256, "lr_factor": 1.0, "parent": None}
IMAGENET = {
    "name": "imagenet",
    "form": "imagenet",
    "root": "/x",
    "val": None,
    "val_share": 0.2,  # of a folder only
    "download": False,
    "skip_corrupt": False,
    "cache": "auto",
    "classes": 1000,  # section 4
    "scale": 1.0,  # section 2.1: a crop of 224 x 224
    "width": 1.0,  # Table 1
    "mirror": True,  # section 3.1: "random horizontal flipping"
    "dropout": 0.5,  # section 3.1
    "batch": 256,  # section 3.1
    "epochs": 74,  # section 3.1: 370K iterations (74 epochs)
    "finetune_epochs": None,  # not stated; half of them
    "patience": 5,  # not stated
    "schedule": None,  # section 3.1: "when the validation set accuracy stopped improving"
    "lr": 0.01,  # section 3.1: 1e-2
    "draw": "std001",  # section 3.1's "variance 1e-2" is Krizhevsky's deviation of 0.01
}


class Recipe(NamedTuple):
    lr: float
    batch: int
    draw: str  # own: the publication's or the library's
    dropout: float
    momentum: float
    decay: float
    nesterov: bool = False
    epochs: int = 90  # that `falls` is about
    falls: dict[int, float] | None = None  # epochs that are over -> factor from there on; None: on a plateau


# The paper, section 3.1.
VGG = Recipe(1e-2, 256, "std001", 0.5, 0.9, 5e-4)
# He et al. 2015, section 3.4: batch 256, 0.1, a tenth where the error plateaus, decay 1e-4, momentum 0.9, no dropout.
RESNET = Recipe(0.1, 256, "own", 0.0, 0.9, 1e-4)
RECIPES = {
    **dict.fromkeys(OF_TABLE_1, VGG),
    # LeCun et al. 1998, section III.B: 20 passes at 5e-4, 2e-4, 1e-4, 5e-5 and 1e-5, for 2, 3, 3, 4 and the rest; times
    # up to 32 for a weight's own rate, 0.016 an image. No momentum, decay or dropout.
    "lenet5": Recipe(
        *(32 * 0.016, 32, "own", 0.0, 0.0, 0.0), epochs=20, falls={2: 2 / 5, 5: 1 / 5, 8: 1 / 10, 12: 1 / 50}
    ),
    # Krizhevsky et al. 2012, section 5: batch 128, momentum 0.9, decay 0.0005, deviation 0.01, rate 0.01, a tenth where
    # the validation error stops improving; section 4.2: dropout 0.5.
    **dict.fromkeys(("alexnet", "alexnet-towers"), Recipe(0.01, 128, "std001", 0.5, 0.9, 5e-4)),
    # Zeiler & Fergus 2013, section 3: batch 128, 1e-2, momentum 0.9, lowered where the validation error plateaus,
    # dropout 0.5, weights of 1e-2. Decay: not stated, Krizhevsky's.
    "zfnet": Recipe(1e-2, 128, "std001", 0.5, 0.9, 5e-4),
    # Szegedy et al. 2014, sections 5 and 6: momentum 0.9, 4 % lower every 8 epochs; dropout 0.4 (Table 1's 40 %). The
    # rest: bvlc_googlenet's solver.prototxt and its batch of 32; 72 epochs.
    "googlenet": Recipe(
        *(0.01, 32, "own", 0.4, 0.9, 2e-4), epochs=72, falls={epoch: 0.96 ** (epoch // 8) for epoch in range(8, 72, 8)}
    ),
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), RESNET),
    # Zagoruyko & Komodakis 2016, with the code of fb.resnet.torch: Nesterov's momentum, a tenth every 30 of 90 epochs.
    "wide_resnet50_2": RESNET._replace(nesterov=True, falls={30: 0.1, 60: 0.01}),
    # Xie et al. 2016, section 4: 0.1, a tenth three times by fb.resnet.torch's schedule. 120 epochs: not stated.
    "resnext50_32x4d": RESNET._replace(nesterov=True, epochs=120, falls={30: 0.1, 60: 0.01, 90: 0.001}),
    # Huang et al. 2016, section 4.2: batch 256, 0.1, a tenth at 30 and 60 of 90 epochs, decay 1e-4, Nesterov momentum.
    "densenet121": RESNET._replace(nesterov=True, falls={30: 0.1, 60: 0.01}),
    # Hu et al. 2017, section 4: momentum 0.9, 0.6 at a batch of 1,024, a tenth every 30 of 100 epochs. Decay: ResNet's.
    "seresnet50": RESNET._replace(lr=0.6 * 256 / 1024, epochs=100, falls={30: 0.1, 60: 0.01, 90: 0.001}),
    # Its appendix on the challenge: 1.0 at a batch of 2,048, dropout 0.2 before the classifier.
    "senet154": RESNET._replace(lr=256 / 2048, dropout=0.2, epochs=100, falls={30: 0.1, 60: 0.01, 90: 0.001}),
}


def test_every_value_of_imagenet_is_the_papers():
    cfg = composed("data=imagenet", "data.root=/x", "model=D", "train_scale=S256")
    assert asdict(cfg.data) == IMAGENET
    assert learning_rate.DECREASES == 3  # section 3.1: "in total, the learning rate was decreased 3 times"


def test_imagenets_numbers_of_images_are_ilsvrc_2012s():
    """Russakovsky et al. 2015, Table 2: images of all classes, and the fewest of one."""
    assert check.IMAGES == estimate.KNOWN["imagenet"] == {"train": 1_281_167, "val": 50_000}
    assert (check.CLASSES, check.SMALLEST_CLASS) == (1000, {"train": 732, "val": 50})


def test_the_training_scales_are_section_3_1s():
    values = {"S256": S256}
    values["S384"] = {"name": "384", "smin": 384, "smax": 384, "lr_factor": 0.1, "parent": "S256"}  # 1e-3
    values["jitter"] = {"name": "jitter", "smin": 256, "smax": 512, "lr_factor": 0.1, "parent": "S384"}  # not stated
    for option, expected in values.items():
        assert asdict(composed(f"train_scale={option}").train_scale) == expected


def test_every_net_has_a_row():
    assert set(RECIPES) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_a_nets_recipe_is_its_publications(name):
    """Table 1's on the paper's data; the others' on data that have every number but the dropout another way."""
    recipe, data = RECIPES[name], "imagenet" if name in OF_TABLE_1 else "folder"
    cfg = composed(f"data={data}", "data.root=/x", "data.schedule=null", f"model={name}", "train_scale=S256")
    assert cfg.data.lr == pytest.approx(recipe.lr, rel=0.03)  # LeNet-5's 0.512 is 0.5
    assert (cfg.data.batch, cfg.init.draw) == (recipe.batch, recipe.draw)
    assert cfg.data.width == (0.125 if name.startswith(("alexnet", "zfnet")) else 1.0)  # the data's, or the only one
    assert asdict(cfg.model) == {"name": name, "dropout": recipe.dropout, "ceil_mode": False}
    assert (cfg.init.from_a, cfg.init.parent, cfg.layers) == (True, None, "all")
    schedule = cfg.optimizer.schedule
    assert asdict(cfg.optimizer) == {
        "momentum": recipe.momentum,
        "weight_decay": recipe.decay,
        "nesterov": recipe.nesterov,
        "caffe_bias": False,
        "schedule": schedule,
    }
    assert (schedule is None) == (recipe.falls is None)
    if recipe.falls:
        factors = [1.0]
        for epoch in range(1, recipe.epochs):
            factors.append(recipe.falls.get(epoch, factors[-1]))
        found = [learning_rate.Steps(schedule).factor(epoch / recipe.epochs) for epoch in range(recipe.epochs)]
        assert found == pytest.approx(factors, rel=1e-3)
    with torch.device("meta"):
        net = weights.build(cfg, 1000)
    assert getattr(net, "dropout", 0.0) == recipe.dropout, "of the net that is trained"
