"""What each configuration key means. The values stand in conf/; this schema refuses unknown keys and wrong types."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from vgg.nets import DRAWS, MODELS, OF_TABLE_1, PUBLISHED, objection
from vgg.scales import SCALES

REPOSITORY = Path(__file__).resolve().parents[2]


STARTS_FROM_A = ("B", "C", "D", "E")  # section 3.1
VIEWS = ("dense", "multicrop", "center", "tencrop")
TASKS = ("classification", "localisation", "transfer")
DESCRIPTORS = ("fc7", "random", "pixels")  # appendix B's, and two baselines


class UserError(Exception):
    """A mistake of the user's or a state of the disk: shown as one message, without a traceback."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    require(value in allowed, f"{key}={value}: choose one of {', '.join(allowed)}")


@dataclass
class Model:
    name: str  # a column of Table 1, or a network around it
    dropout: float  # before the last layers; the data's, unless it is given
    ceil_mode: bool  # max pools round odd sides up, as the authors' Caffe did

    def __post_init__(self) -> None:
        choice("model.name", self.name, MODELS)
        require(0 <= self.dropout < 1, f"model.dropout={self.dropout} is not in [0, 1)")
        require(not self.ceil_mode or self.name in OF_TABLE_1, f"model.ceil_mode=true: {self.name} rounds as it does")


@dataclass
class TrainScale:
    name: str  # in the run's name
    smin: int  # S is drawn from smin..smax, in the paper's pixels
    smax: int
    lr_factor: float  # on data.lr
    parent: str | None  # the train_scale option whose finished run this one starts from

    def __post_init__(self) -> None:
        require(
            224 <= self.smin <= self.smax, f"train_scale: 224 <= smin={self.smin} <= smax={self.smax} does not hold"
        )


@dataclass
class Data:
    name: str | None  # in the run's name; null: the folder's name
    form: str  # digits, folder, imagenette, imagenet or voc
    root: str | None  # the folder that holds the images; digits and imagenette know one in the cache
    val: str | None  # another folder with the validation images
    download: bool
    skip_corrupt: bool  # leave unreadable validation images out, and say how many; false: they are an error
    classes: int | None  # null: as many as there are class folders
    scale: float  # 1, 0.5, 0.25 or 0.125 of the paper's pixels: crop, S and Q; the first 0, 1, 2 or 3 max pools go
    width: float  # factor on the channels of every layer
    mirror: bool  # an image's mirror image is of the same class: flips in training, mirror images in every view
    dropout: float  # after the ReLU of fc6 and fc7
    batch: int  # images of one step over all devices
    epochs: int  # of the S = 256 stage, at most
    finetune_epochs: int | None  # of the S = 384 and jitter stages, at most; null: half of epochs, rounded up
    patience: int  # epochs without a better top-1 until the learning rate falls
    schedule: list[list[float]] | None  # optimizer.schedule, where that is not given; null: the plateau rule
    lr: float
    draw: str  # what init=default draws random weights by

    def __post_init__(self) -> None:
        require(0 <= self.dropout < 1, f"data.dropout={self.dropout} is not in [0, 1)")
        choice("data.form", self.form, ("digits", "folder", "imagenette", "imagenet", "voc"))
        require(self.scale in SCALES, f"data.scale={self.scale:g}: choose one of 1, 0.5, 0.25, 0.125")
        require(0 < self.width <= 4, f"data.width={self.width} is not in (0, 4]")
        for key in ("batch", "epochs", "patience"):
            require(getattr(self, key) >= 1, f"data.{key}={getattr(self, key)} is not positive")
        require(
            self.finetune_epochs is None or self.finetune_epochs >= 1,
            f"data.finetune_epochs={self.finetune_epochs} is not positive",
        )
        require(self.lr > 0, f"data.lr={self.lr} is not positive")
        if self.name is None:
            require(bool(self.root), f"data={self.form} needs the folder of your images: data.root=/path/to/photos")
            self.name = Path(self.root).resolve().name
        require(not set(self.name) & set("/\\:;,#?'\" "), f"data.name={self.name!r}: use letters, digits, '_' and '.'")


@dataclass
class Init:
    draw: str  # how random weights are drawn
    from_a: bool  # B, C, D and E take net A's layers (section 3.1)
    parent: str | None  # start from this finished run instead of the lineage's

    def __post_init__(self) -> None:
        choice("init.draw", self.draw, (*DRAWS, "own"))


@dataclass
class Weights:
    """Published weights to evaluate without any training, or to start from."""

    source: str | None  # torchvision, timm or caffe
    path: str | None  # the file on disk; torchvision's and timm's are fetched where it is not given

    def __post_init__(self) -> None:
        if self.source is not None:
            choice("weights.source", self.source, tuple(PUBLISHED))


@dataclass
class Localisation:
    """Appendix A: the box predictor in the place of fc8, and its training."""

    boxes: str  # pcr: a box for each class; scr: one for all
    lr_factor: float  # on data.lr, at every training scale
    annotations: str | None  # a CSV file, or a folder of XML files; null: looked for in the data's folder

    def __post_init__(self) -> None:
        choice("localisation.boxes", self.boxes, ("pcr", "scr"))
        require(self.lr_factor > 0, f"localisation.lr_factor={self.lr_factor} is not positive")


@dataclass
class Optimizer:
    momentum: float
    weight_decay: float
    caffe_bias: bool  # biases with twice the learning rate and no decay, as Caffe's VGG and AlexNet files have it
    nesterov: bool = False
    # [share of the epochs, factor on the learning rate from there on], ... in place of the plateau rule
    schedule: list[list[float]] | None = None

    def __post_init__(self) -> None:
        require(0 <= self.momentum < 1, f"optimizer.momentum={self.momentum} is not in [0, 1)")
        require(self.weight_decay >= 0, f"optimizer.weight_decay={self.weight_decay} is negative")
        require(not self.nesterov or self.momentum > 0, "optimizer.nesterov needs a momentum")
        steps = self.schedule or []
        require(
            all(len(step) == 2 and 0 < step[0] < 1 and step[1] > 0 for step in steps) and steps == sorted(steps),
            f"optimizer.schedule={steps}: pairs of a share of the epochs, rising from 0 to 1, and a factor",
        )


@dataclass
class Trainer:
    accelerator: str  # auto, cpu, gpu or mps
    devices: int  # of each machine; -1: all there are
    strategy: str  # auto or ddp
    launch: str  # who starts the ranks: lightning on this machine, srun in a Slurm allocation, torchrun on each machine
    num_nodes: int  # machines, for srun and torchrun
    node_rank: int  # torchrun: which of the machines this one is; 0 leads
    leader: str | None  # torchrun: host:port of machine 0, the port a free one
    precision: str  # 32-true, bf16-mixed or 16-mixed
    compile: bool  # the net by torch.compile, in training
    micro_batch: int | None  # images of one forward pass on one device; null: its whole share of data.batch
    workers: int | None  # decoding processes of each device; null: two cores fewer than a device has, at most 16
    checkpoint_minutes: float  # between two checkpoints inside an epoch

    def __post_init__(self) -> None:
        choice("trainer.accelerator", self.accelerator, ("auto", "cpu", "gpu", "mps"))
        choice("trainer.strategy", self.strategy, ("auto", "ddp"))
        choice("trainer.precision", self.precision, ("32-true", "bf16-mixed", "16-mixed"))
        require(self.devices == -1 or self.devices >= 1, "trainer.devices is a number of devices, or -1 for all")
        choice("trainer.launch", self.launch, ("lightning", "srun", "torchrun"))
        require(
            self.num_nodes == 1 or (self.launch != "lightning" and self.num_nodes > 1),
            f"trainer.num_nodes={self.num_nodes}: several machines need trainer=slurm or trainer=torchrun",
        )
        require(
            self.launch == "lightning" or self.devices > 0,
            f"trainer.launch={self.launch} needs the number of devices of each machine: trainer.devices=8",
        )
        require(
            0 <= self.node_rank < self.num_nodes,
            f"trainer.node_rank={self.node_rank} is not one of {self.num_nodes} machines, counted from 0",
        )
        require(
            self.launch != "torchrun" or bool(re.fullmatch(r"[^:]+:\d+", self.leader or "")),
            "trainer.launch=torchrun needs machine 0 and a free port of it: trainer.leader=HOST:29500",
        )
        require(
            self.micro_batch is None or self.micro_batch >= 1, f"trainer.micro_batch={self.micro_batch}: at least 1"
        )
        require(self.checkpoint_minutes >= 0, f"trainer.checkpoint_minutes={self.checkpoint_minutes} is negative")
        require(self.workers is None or self.workers >= 0, f"trainer.workers={self.workers} is negative")


@dataclass
class Logger:
    wandb: str  # disabled, offline or online
    project: str
    group: str | None  # W&B's name for runs that belong together; null: the data

    def __post_init__(self) -> None:
        choice("logger.wandb", self.wandb, ("disabled", "offline", "online"))


@dataclass
class Dirs:
    runs: str
    cache: str


@dataclass
class Plan:
    dry_run: bool  # print the plan, with what is missing and how long it may take, and stop
    # The training speed of net D, or of model= where that is not of Table 1, for that estimate; null: as finished runs
    # on this data were measured.
    images_per_second: float | None = None

    def __post_init__(self) -> None:
        require(
            self.images_per_second is None or self.images_per_second > 0,
            f"plan.images_per_second={self.images_per_second} is not positive",
        )


@dataclass
class Ablation:
    """A named plan: cells by the names that their runs have without the data."""

    cells: list[str]
    places: list[
        str
    ]  # evaluate.py: the paper's rows there about these cells, as Table 3; none: each cell, as eval= says


@dataclass
class TrainConfig:
    """One cell of the grid on one data set: what train.py composes and a run directory stores."""

    task: str  # classification; localisation: a box predictor; transfer, of evaluate.py: SVMs on descriptors
    model: Model
    train_scale: TrainScale
    data: Data
    init: Init
    weights: Weights
    layers: str  # all, or fc: only the fully-connected layers, fc6, fc7 and fc8, are trained
    optimizer: Optimizer
    localisation: Localisation
    seed: int
    tag: str | None  # free text at the end of the run's name
    chain: bool  # train missing parents first; false: they are an error
    trainer: Trainer
    logger: Logger
    dirs: Dirs
    plan: Plan = field(default_factory=lambda: Plan(dry_run=False))
    ablation: Ablation | None = None  # a named plan instead of one cell

    def __post_init__(self) -> None:
        choice("task", self.task, TASKS)
        choice("layers", self.layers, ("all", "fc"))
        unfit = objection(self.task, self.model.name, self.data.scale, self.data.width, self.init.draw)
        require(unfit is None, unfit or "")
        require(self.seed >= 0, f"seed={self.seed} is negative")
        if self.weights.source is not None:
            choice(f"weights={self.weights.source} with model", self.model.name, PUBLISHED[self.weights.source])
            require(self.init.parent is None, "init.parent and weights= are two things to start from: give one")
        if self.tag is not None:
            require(self.tag.isalnum(), f"tag={self.tag!r}: letters and digits only")

    @property
    def epochs(self) -> int:
        """Epochs of this stage, at most."""
        if self.train_scale.parent is None and self.task != "localisation":
            return self.data.epochs
        return self.data.finetune_epochs or -(-self.data.epochs // 2)

    @property
    def learning_rate(self) -> float:
        factor = self.localisation if self.task == "localisation" else self.train_scale
        return self.data.lr * factor.lr_factor


@dataclass
class EvalMethod:
    views: list[str]  # dense, multicrop, center, tencrop; the mean over several
    softmax: str  # last: scores are averaged over space, then the soft-max; first: the other way round

    def __post_init__(self) -> None:
        for view in self.views:
            choice("eval_method.views", view, VIEWS)
        require(bool(self.views), "eval_method.views is empty")
        choice("eval_method.softmax", self.softmax, ("last", "first"))


@dataclass
class TestScale:
    rule: str  # single (section 4.1) or multi (4.2)
    q: list[int] | None  # explicit test scales in the paper's pixels, instead of the rule

    def __post_init__(self) -> None:
        choice("test_scale.rule", self.rule, ("single", "multi"))
        for q in self.q or []:
            require(q >= 224, f"test_scale.q={q} is smaller than the 224 crop")
        require(self.q is None or len(set(self.q)) == len(self.q) > 0, "test_scale.q is empty or repeats a scale")


@dataclass
class BoxEvaluation:
    """Appendix A: how the boxes of an image are found; eval_method and test_scale are about its five classes."""

    protocol: str  # full, or ground_truth: a central crop and the box of the true class
    q: list[list[int]] | None  # test scales of each run; null: Q as for its training scale
    labels: list[str] | None  # classification runs; null: those that the predictors started from
    k: int  # classes that give boxes at a scale
    t: float  # boxes are merged while their match score is below

    def __post_init__(self) -> None:
        choice("box_evaluation.protocol", self.protocol, ("full", "ground_truth"))
        require(self.k >= 1, f"box_evaluation.k={self.k}: at least 1")
        for q in self.q or []:
            require(
                len(set(q)) == len(q) > 0 and min(q) >= 224,
                f"box_evaluation.q={self.q}: a list of scales for each run, none below the 224 crop",
            )


@dataclass
class Transfer:
    """Appendix B: which descriptors of the images a linear SVM a class is trained on, and on which images."""

    features: str  # fc7; random: fc7 of the same net as it was drawn; pixels: what the net is given
    q: list[int]  # test scales in the paper's pixels
    combine: str  # stack or average the descriptors of several Q
    train: int  # images a class to train on, of class folders
    test: int  # images a class to test on, at most
    splits: int  # into training and test images, drawn anew
    seed: int  # of those draws, and of the images that choose C
    train_split: str  # VOC's own parts
    test_split: str
    labels: str  # VOC's: objects, or actions of persons
    person_boxes: bool  # stack the descriptor of the person's box on the image's
    c: list[float]  # candidates for the SVM's C
    held_out: float  # part of the training images that chooses C

    def __post_init__(self) -> None:
        choice("transfer.features", self.features, DESCRIPTORS)
        choice("transfer.combine", self.combine, ("stack", "average"))
        choice("transfer.labels", self.labels, ("objects", "actions"))
        for q in self.q:
            require(q >= 224, f"transfer.q={q} is smaller than the 224 crop")
        require(len(set(self.q)) == len(self.q) > 0, "transfer.q is empty or repeats a scale")
        require(self.train >= 2, f"transfer.train={self.train}: at least 2, of which one chooses C")
        for key in ("test", "splits"):
            require(getattr(self, key) >= 1, f"transfer.{key}={getattr(self, key)} is not positive")
        require(self.seed >= 0, f"transfer.seed={self.seed} is negative")
        require(bool(self.c) and min(self.c) > 0, "transfer.c: one or more positive numbers")
        require(0 < self.held_out < 1, f"transfer.held_out={self.held_out} is not in (0, 1)")
        require(self.train_split != self.test_split, "transfer.train_split and transfer.test_split are the same")
        require(
            self.labels == "actions" or not self.person_boxes, "transfer.person_boxes needs transfer.labels=actions"
        )


@dataclass
class EvaluateConfig(TrainConfig):
    """What evaluate.py composes: which runs, which views at which scales, on which data."""

    runs: list[str] | None = None  # names; null: the one that model, train_scale and so on name
    eval_method: EvalMethod = field(default_factory=lambda: EvalMethod(["dense"], "last"))
    test_scale: TestScale = field(default_factory=lambda: TestScale("single", None))
    box_evaluation: BoxEvaluation = field(default_factory=lambda: BoxEvaluation("full", None, None, 5, 0.0))
    ceil_mode: bool | None = None  # pool this way instead of the run's own
    submission: str | None = None  # write ILSVRC's test-server file here instead of scoring the validation images
    test: str | None = None  # the folder of unlabelled test images; null: data.root/test
    devkit: str | None = None  # ILSVRC2012_devkit_t12, a folder or its .tar.gz; null: in data.root
    eval_batch: int = 16  # images that go through the net together
    transfer: Transfer = MISSING  # of task=transfer

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.eval_batch >= 1, f"eval_batch={self.eval_batch} is not positive")
