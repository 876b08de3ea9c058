"""Section 3.1: the LightningModule. Cross-entropy, SGD, the learning rate divided by 10 on a plateau, top-1/top-5."""

from collections.abc import Sequence
from typing import Any, Literal

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from vgg.core.paper import FEW, IMAGENET_MEAN
from vgg.data.transforms import channels_last
from vgg.nets import initialisation
from vgg.nets.factory import make
from vgg.training.learning_rate import Plateau, Steps


class Recipe(pl.LightningModule):
    """Section 3.1's training of a net, or another publication's, whatever its loss.

    A subclass has the loss, and judges the outputs. A batch of training images is (crops, targets ..., shift, keys):

    - crops: (N, crop, crop, 3) uint8 RGB
    - targets: what the subclass asks for, a tensor of N rows each
    - shift: (N, 3, 1, 1) float, the colour shift of each image in levels of 0..255, which is added to its pixels
    - keys: (N,) whole numbers from 0 to 2^32 - 1 that dropout draws each image's masks from

    A batch of validation or test images is (crops, targets ...), and may be empty.

    Args:
        model: the net, a column of Table 1 (A, A-LRN, B, C, D, E) or another one of `vgg.core.catalogue.MODELS`.
        classes: that are told apart.
        scale: 1, 1/2, 1/4 or 1/8 of the paper's pixels; the crop is 224 times that.
        width: factor on the channels of every layer.
        dropout: probability of a unit's being left out, after fc6 and fc7.
        ceil_mode: max pools round odd sides up.
        draw: how random weights are drawn, as of `vgg.nets.initialisation.draw`.
        draw_seed: of the random weights.
        mean: RGB in 0..255 that is subtracted from every pixel.
        layers: "fc" trains the fully-connected layers only.
        lr: learning rate at the start.
        momentum: of stochastic gradient descent.
        weight_decay: factor of the L2 penalty.
        nesterov: Nesterov's momentum.
        caffe_bias: biases have twice the learning rate and no decay.
        patience: validations without a better top-1 error until the learning rate is divided by 10.
        schedule: (share of the epochs, factor on the learning rate from there on), ..., in the place of that rule.
    """

    def __init__(
        self,
        model: str = "D",
        classes: int = 1000,
        *,
        scale: float = 1.0,
        width: float = 1.0,
        dropout: float = 0.5,
        ceil_mode: bool = False,
        draw: str = "std001",
        draw_seed: int = 1,
        mean: Sequence[float] = IMAGENET_MEAN,
        layers: Literal["all", "fc"] = "all",
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        nesterov: bool = False,
        caffe_bias: bool = False,
        patience: int = 5,
        schedule: Sequence[Sequence[float]] | None = None,
    ):
        super().__init__()
        mean = [float(level) for level in mean]  # a checkpoint holds plain values, no tensor
        self.save_hyperparameters()
        self.net = make(model, self.outputs(classes), scale, width, dropout, ceil_mode)
        initialisation.draw(self.net, draw, draw_seed)
        self.net.mean.copy_(torch.tensor(mean))
        self.net.to(memory_format=torch.channels_last)
        self.accuracies = torch.nn.ModuleDict(self.metrics(classes))  # the first decides the learning rate
        self.sums: Tensor | None = None  # of this rank's images of this epoch, since it was begun or resumed
        self.frozen = [
            layer.requires_grad_(False)
            for name, layer in self.net.named_children()
            if layers == "fc" and name not in self.net.classifier
        ]

    def outputs(self, classes: int) -> int:
        """Outputs of the net."""
        return classes

    def metrics(self, classes: int) -> dict[str, Metric]:
        """The part of the images that are right, by the name of the error."""
        raise NotImplementedError

    def loss(self, outputs: Tensor, *targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a batch, and its errors in % by name."""
        raise NotImplementedError

    def judge(self, outputs: Tensor, *targets: Tensor) -> None:
        """Count a batch of validation or test images in `accuracies`."""
        raise NotImplementedError

    def measures(self) -> dict[str, Tensor]:
        """What is logged of a validation or test beside the errors, over all ranks."""
        return {}

    def train(self, mode: bool = True) -> "Recipe":
        """Layers that are not trained stay in evaluation mode: a batch normalisation keeps its statistics."""
        super().train(mode)
        for layer in self.frozen:
            layer.eval()
        return self

    def training_step(self, batch: Sequence[Tensor], batch_index: int) -> Tensor:
        crops, *targets, shift, keys = batch
        loss, errors = self.loss(self.net(channels_last(crops) + shift, keys), *targets)
        # Lightning's log() would do the same, for the time of a small net's layer or two in every step.
        means = {"loss": loss.detach(), **errors, "images": loss.new_ones(())}
        self.shown, sums = tuple(means), len(crops) * torch.stack([mean.float() for mean in means.values()])
        self.sums = sums if self.sums is None else self.sums + sums
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_index: int) -> None:
        crops, *targets = batch
        if len(crops):
            self.judge(self.net(channels_last(crops)), *targets)

    test_step = validation_step

    def on_validation_epoch_start(self) -> None:
        # Each rank keeps statistics of the images that it has seen: their mean is what is validated, saved and gone on
        # with. A checkpoint inside an epoch has rank 0's, which training does not use and a few dozen steps renew.
        for layer in self.net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                for statistic in (layer.running_mean, layer.running_var):
                    statistic.copy_(self.trainer.strategy.reduce(statistic.clone(), reduce_op="mean"))

    def on_validation_epoch_end(self) -> None:
        self.log_errors("val")
        self.log_training()

    def on_test_epoch_end(self) -> None:
        self.log_errors("test")

    def on_train_epoch_end(self) -> None:
        self.log_training()  # where no validation has

    def log_errors(self, stage: str) -> None:
        """The errors of a validation or test in %, over all ranks, every image once."""
        for name, accuracy in self.accuracies.items():
            self.log(f"{stage}/{name}_error", 100 * (1 - accuracy.compute()), prog_bar=True)
            accuracy.reset()
        self.log_dict({f"{stage}/{name}": value for name, value in self.measures().items()})

    def log_training(self) -> None:
        """The means over the images that were trained on since the last time, over all ranks."""
        if self.sums is not None:
            *sums, images = self.trainer.strategy.reduce(self.sums, reduce_op="sum")
            self.log_dict({f"train/{name}": total / images for name, total in zip(self.shown, sums, strict=False)})
            self.sums = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        how = self.hparams
        trained = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": [p for name, p in trained if not name.endswith("bias")]}]
        biases = [p for name, p in trained if name.endswith("bias")]
        if how.caffe_bias:
            groups.append({"params": biases, "lr": 2 * how.lr, "weight_decay": 0.0})
        else:
            groups[0]["params"] += biases
        recipe = {key: how[key] for key in ("lr", "momentum", "weight_decay", "nesterov")}
        return torch.optim.SGD(groups, **recipe, fused=True)

    def configure_callbacks(self) -> list[pl.Callback]:
        """The rule of the learning rate, where the trainer has none of its own."""
        # No scheduler beside the optimiser: Lightning 2.6.6 writes an epoch's checkpoint before it steps
        # ReduceLROnPlateau, and a run that resumes from there has lost that step.
        how = self.hparams
        if any(isinstance(callback, Plateau) for callback in self.trainer.callbacks):
            return []
        return [Steps(how.schedule) if how.schedule else Plateau(how.patience)]


def tops(classes: int) -> tuple[int, ...]:
    """The k of the top-k errors: 1 and 5, with at most FEW classes 1 alone."""
    return (1, 5) if classes > FEW else (1,)


class Classifier(Recipe):
    """A net that tells classes apart, under the cross-entropy. Args as of `Recipe`; a batch has labels (N,) as target.

    Logs train/loss, train/top1_error and train/top5_error, the same of val and test, and val/most_frequent_answer.
    """

    def metrics(self, classes: int) -> dict[str, Metric]:
        return {f"top{k}": MulticlassAccuracy(classes, top_k=k, average="micro") for k in tops(classes)}

    def loss(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        counted = tops(outputs.shape[1])
        right = outputs.detach().topk(counted[-1]).indices == labels[:, None]
        errors = {f"top{k}_error": 100 * (~right[:, :k].any(1)).float().mean() for k in counted}
        return F.cross_entropy(outputs, labels), errors

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.answers = torch.zeros(self.net.classes, device=self.device)  # how often each class was the most probable
        self.val_loss = torch.zeros(1, device=self.device)

    on_test_epoch_start = on_validation_epoch_start

    def judge(self, outputs: Tensor, labels: Tensor) -> None:
        for accuracy in self.accuracies.values():
            accuracy.update(outputs, labels)
        self.answers += outputs.argmax(1).bincount(minlength=self.net.classes)
        self.val_loss += F.cross_entropy(outputs.float(), labels, reduction="sum")

    def measures(self) -> dict[str, Tensor]:
        """The mean loss, and in % how many images got the most frequent answer: at chance, often nearly all."""
        sums = self.trainer.strategy.reduce(torch.cat([self.val_loss, self.answers]), reduce_op="sum")
        images = sums[1:].sum()
        return {"loss": sums[0] / images, "most_frequent_answer": 100 * sums[1:].max() / images}
