"""Section 3.1: the LightningModule. Cross-entropy, SGD, the learning rate divided by 10 on a plateau, top-1/top-5."""

from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from vgg.core.config import TrainConfig
from vgg.core.paper import FEW
from vgg.data.colours import Colours
from vgg.data.datamodule import ImageData
from vgg.data.transforms import channels_last
from vgg.nets.base import Network


class Recipe(pl.LightningModule):
    """Section 3.1's training of a net, or its own, whatever its loss: a subclass has that, and judges the outputs."""

    def __init__(self, net: Network, cfg: TrainConfig, data: ImageData, accuracies: dict[str, Metric]):
        super().__init__()
        self.net, self.cfg, self.data = net.to(memory_format=torch.channels_last), cfg, data
        self.accuracies = torch.nn.ModuleDict(accuracies)  # the first decides the learning rate
        self.colours: Colours
        self.sums: Tensor | None = None  # of this rank's images of this epoch, since it was begun or resumed
        self.frozen = [
            layer.requires_grad_(False)
            for name, layer in net.named_children()
            if cfg.layers == "fc" and name not in net.classifier
        ]

    def train(self, mode: bool = True) -> "Recipe":
        """Layers that are not trained stay in evaluation mode: a batch normalisation keeps its statistics."""
        super().train(mode)
        for layer in self.frozen:
            layer.eval()
        return self

    def loss(self, outputs: Tensor, *targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss of a batch, and its errors in % by name."""
        raise NotImplementedError

    def judge(self, outputs: Tensor, *targets: Tensor) -> None:
        """Count a batch of validation images in `accuracies`."""
        raise NotImplementedError

    def measures(self) -> dict[str, Tensor]:
        """What is logged of a validation beside the errors, over all ranks."""
        return {}

    def on_fit_start(self) -> None:
        self.colours = self.data.colours().to(self.device)
        if not self.net.mean.any():  # random weights: no mean has come with them
            self.net.mean.copy_(self.colours.mean)

    def training_step(self, batch: list[Tensor], batch_index: int) -> Tensor:
        """`batch`: what `TrainingCrops` gives, but the index of an unreadable file."""
        crops, *targets, alpha, keys = batch
        loss, errors = self.loss(self.net(channels_last(crops) + self.colours.shift(alpha), keys), *targets)
        # Lightning's log() would do the same, for the time of a small net's layer or two in every step.
        means = {"loss": loss.detach(), **errors, "images": loss.new_ones(())}
        self.shown, sums = tuple(means), len(crops) * torch.stack([mean.float() for mean in means.values()])
        self.sums = sums if self.sums is None else self.sums + sums
        return loss

    def validation_step(self, batch: list[Tensor], batch_index: int) -> None:
        crops, *targets, unreadable = batch
        self.unreadable[unreadable[unreadable >= 0]] = 1
        if (read := unreadable < 0).any():
            self.judge(self.net(channels_last(crops[read])), *(target[read] for target in targets))

    def on_validation_epoch_start(self) -> None:
        self.unreadable = torch.zeros(len(self.data.val), device=self.device)
        # Each rank keeps statistics of the images that it has seen: their mean is what is validated, saved and gone on
        # with. A checkpoint inside an epoch has rank 0's, which training does not use and a few dozen steps renew.
        for layer in self.net.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                for statistic in (layer.running_mean, layer.running_var):
                    statistic.copy_(self.trainer.strategy.reduce(statistic.clone(), reduce_op="mean"))

    def on_validation_epoch_end(self) -> None:
        of_all_ranks = self.trainer.strategy.reduce(self.unreadable, reduce_op="sum")
        self.data.refuse_unreadable(of_all_ranks.nonzero().flatten().tolist())
        for name, accuracy in self.accuracies.items():  # over all ranks, every image once
            self.log(f"val/{name}_error", 100 * (1 - accuracy.compute()), prog_bar=True)
            accuracy.reset()
        self.log_dict({f"val/{name}": value for name, value in self.measures().items()})
        if self.sums is not None:
            *sums, images = self.trainer.strategy.reduce(self.sums, reduce_op="sum")
            self.log_dict({f"train/{name}": total / images for name, total in zip(self.shown, sums, strict=False)})
            self.sums = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        how = self.cfg.optimizer
        trained = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [{"params": [p for name, p in trained if not name.endswith("bias")]}]
        biases = [p for name, p in trained if name.endswith("bias")]
        if how.caffe_bias:
            groups.append({"params": biases, "lr": 2 * self.cfg.learning_rate, "weight_decay": 0.0})
        else:
            groups[0]["params"] += biases
        return torch.optim.SGD(
            groups,
            lr=self.cfg.learning_rate,
            momentum=how.momentum,
            weight_decay=how.weight_decay,
            nesterov=how.nesterov,
            fused=True,
        )


def tops(classes: int) -> tuple[int, ...]:
    """The k of the top-k errors: 1 and 5, with at most FEW classes 1 alone."""
    return (1, 5) if classes > FEW else (1,)


class Classifier(Recipe):
    """A net that tells classes apart."""

    def __init__(self, net: Network, cfg: TrainConfig, data: ImageData):
        classes = net.classes
        super().__init__(
            net,
            cfg,
            data,
            {f"top{k}": MulticlassAccuracy(classes, top_k=k, average="micro") for k in tops(classes)},
        )

    def loss(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        counted = tops(outputs.shape[1])
        right = outputs.detach().topk(counted[-1]).indices == labels[:, None]
        errors = {f"top{k}_error": 100 * (~right[:, :k].any(1)).float().mean() for k in counted}
        return F.cross_entropy(outputs, labels), errors

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.answers = torch.zeros(self.net.classes, device=self.device)  # how often each class was the most probable
        self.val_loss = torch.zeros(1, device=self.device)

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
