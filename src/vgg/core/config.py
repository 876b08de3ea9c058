"""What each configuration key means and which values it takes. The values stand in conf/, and are checked here once
Hydra has composed them; every mistake is one line of a UserError, with the key, the value and what it should be.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, dataclass_transform, get_args

from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, ValidationError
from pydantic.dataclasses import dataclass

from vgg.core.catalogue import DRAWS, MODELS, OF_TABLE_1, PUBLISHED, objection
from vgg.core.errors import Contradiction, UserError, agree, did_you_mean, short
from vgg.core.scales import SCALES

STARTS_FROM_A = ("B", "C", "D", "E")  # section 3.1

VIEWS = ("dense", "multicrop", "center", "tencrop")

TASKS = ("classification", "localisation", "transfer")

DESCRIPTORS = ("fc7", "random", "pixels")  # appendix B's, and two baselines

CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)

LONGEST = 64  # bytes of data.name and of tag, parts of folders' names


def mistakes(error: ValidationError, schema: type) -> Iterator[str]:
    """A line for each mistake: `data.lr=-1: should be greater than 0`."""
    for item in error.errors():
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in item["loc"]).lstrip(".")
        reason = item.get("ctx", {}).get("error")
        if isinstance(reason, Contradiction):
            yield str(reason)
        elif item["type"] == "unexpected_keyword_argument":
            yield f"{key}={short(item['input'])}: there is no such key, {did_you_mean(key, list(keys(schema)))}"
        elif item["type"].startswith("missing"):
            yield f"{key} is missing"
        else:
            message = str(reason or item["msg"]).removeprefix("Input ").replace("List should", "should")
            yield f"{key}={short(item['input'])}: {message}"


@dataclass_transform(kw_only_default=True, field_specifiers=(Field,))
def checked(schema: type) -> type:
    """A pydantic dataclass that raises UserError, with a line for each wrong, missing or unknown key."""
    made = dataclass(config=CONFIG, kw_only=True)(schema)
    validate = made.__init__

    def __init__(self: Any, **values: Any) -> None:
        try:
            validate(self, **values)
        except ValidationError as error:
            raise UserError("\n".join(mistakes(error, made))) from None

    made.__init__ = __init__
    return made


def keys(schema: type, prefix: str = "") -> dict[str, str | None]:
    """Every key, those of groups too, with its description: {"data": …, "data.lr": …}."""
    described: dict[str, str | None] = {}
    for name, field in schema.__pydantic_fields__.items():
        described[prefix + name] = field.description
        for part in (field.annotation, *get_args(field.annotation)):
            if is_dataclass(part):
                described |= keys(part, f"{prefix}{name}.")
    return described


def in_file_names(text: str) -> str:
    """Refuse what the name of a run's folder cannot hold, by a reason; whitespace becomes `_`."""
    name = "_".join(text.split())
    if odd := sorted({sign for sign in name if sign in "/\\:;,#?'\"*%<>|" or not sign.isprintable()}):
        raise ValueError(f"a run's name cannot have {' '.join(map(repr, odd))}")
    if not name or name.startswith((".", "-")):
        raise ValueError("a run's name cannot be empty, nor start with '.' or '-'")
    if len(name.encode()) > LONGEST:
        raise ValueError(f"it has {len(name.encode())} bytes, at most {LONGEST} fit in a run's name")
    return name


def of_small_data(scale: float) -> float:
    """Refuse a scale that the paper's geometry does not have."""
    if scale not in SCALES:
        raise ValueError(f"should be {', '.join(f'{one:g}' for one in SCALES)}")
    return scale


def folder(path: str) -> str:
    """Refuse a path where no folder can be, as a file is there."""
    there = next(str(part) for part in (Path(path), *Path(path).absolute().parents) if os.path.exists(part))
    if not os.path.isdir(there):
        raise ValueError(f"{there} is a file, this needs a folder")
    return path


def distinct(values: list[Any]) -> list[Any]:
    """Refuse a list that names something twice."""
    if repeated := [short(value) for index, value in enumerate(values) if value in values[:index]]:
        raise ValueError(f"{repeated[0]} stands there twice")
    return values


Folder = Annotated[str, AfterValidator(folder)]

NamePart = Annotated[str, AfterValidator(in_file_names)]

Count = Annotated[StrictInt, Field(ge=1)]

Seed = Annotated[StrictInt, Field(ge=0, lt=2**32)]

Positive = Annotated[StrictFloat, Field(gt=0)]

Share = Annotated[StrictFloat, Field(ge=0, lt=1)]

Side = Annotated[StrictInt, Field(ge=224)]  # S or Q, in the paper's pixels: no smaller than its crop

Sides = Annotated[list[Side], Field(min_length=1), AfterValidator(distinct)]

Schedule = list[Annotated[list[StrictFloat], Field(min_length=2, max_length=2)]]


@checked
class Model:
    name: Literal[*MODELS] = Field(description="a column of Table 1, or a network around it")
    dropout: Share = Field(description="before the last layers; the data's, unless it is given")
    ceil_mode: StrictBool = Field(description="max pools round odd sides up, as the authors' Caffe did")

    def __post_init__(self) -> None:
        agree(not self.ceil_mode or self.name in OF_TABLE_1, f"model.ceil_mode=true: {self.name} rounds as it does")


@checked
class TrainScale:
    name: NamePart = Field(description="in the run's name")
    smin: Side = Field(description="S is drawn from smin..smax, in the paper's pixels")
    smax: Side = Field(description="the largest S")
    lr_factor: Positive = Field(description="on data.lr")
    parent: str | None = Field(description="the train_scale option whose finished run this one starts from")

    def __post_init__(self) -> None:
        agree(self.smin <= self.smax, f"train_scale.smin={self.smin} is larger than train_scale.smax={self.smax}")


@checked
class Data:
    name: NamePart | None = Field(description="in the run's name; null: the folder's name")
    form: Literal["digits", "folder", "imagenette", "imagenet", "voc"] = Field(description="how they are kept")
    root: str | None = Field(description="the folder of the images; digits and imagenette know one in the cache")
    val: str | None = Field(description="another folder with the validation images")
    val_share: Annotated[StrictFloat, Field(gt=0, lt=1)] = Field(
        description="of the photos of a folder without train/ and val/, held out for validation by their content"
    )
    download: StrictBool = Field(description="fetch what data.form can fetch")
    skip_corrupt: StrictBool = Field(
        description="leave unreadable validation images out, and say how many; false: they are an error"
    )
    classes: Count | None = Field(description="null: as many as there are class folders")
    cache: Literal["auto", "ram", "none"] = Field(
        description="ram: decode the images once and keep them in memory; auto: where they are few; crops are the same"
    )
    scale: Annotated[StrictFloat, AfterValidator(of_small_data)] = Field(
        description="1, 0.5, 0.25 or 0.125 of the paper's pixels: crop, S and Q; the first 0, 1, 2 or 3 max pools go"
    )
    width: Annotated[StrictFloat, Field(gt=0, le=4)] = Field(description="factor on the channels of every layer")
    mirror: StrictBool = Field(
        description="an image's mirror image is of the same class: flips in training, mirror images in every view"
    )
    dropout: Share = Field(description="after the ReLU of fc6 and fc7")
    batch: Count = Field(description="images of one step over all devices")
    epochs: Count = Field(description="of the S = 256 stage, at most")
    finetune_epochs: Count | None = Field(
        description="of the S = 384 and jitter stages, at most; null: half of epochs, rounded up"
    )
    patience: Count = Field(description="epochs without a better top-1 until the learning rate falls")
    schedule: Schedule | None = Field(description="optimizer.schedule, where that is not given; null: the plateau rule")
    lr: Positive = Field(description="the learning rate of the S = 256 stage, at its start")
    draw: Literal[*DRAWS, "own"] = Field(description="what init=default draws random weights by")

    def __post_init__(self) -> None:
        if self.name is None:
            agree(bool(self.root), f"data={self.form} needs the folder of your images: data.root=/path/to/photos")
            try:
                self.name = in_file_names(Path(self.root).resolve().name)
            except ValueError as error:
                raise Contradiction(f"data.root={short(self.root)}: {error}; add data.name=NAME") from None


@checked
class Init:
    draw: Literal[*DRAWS, "own"] = Field(description="how random weights are drawn")
    from_a: StrictBool = Field(description="B, C, D and E take net A's layers (section 3.1)")
    parent: str | None = Field(description="start from this finished run instead of the lineage's")


@checked
class Weights:
    """Published weights to evaluate without any training, or to start from."""

    source: Literal[*PUBLISHED] | None = Field(description="who published them")
    path: str | None = Field(description="the file on disk; torchvision's and timm's are fetched where it is not given")


@checked
class Localisation:
    """Appendix A: the box predictor in the place of fc8, and its training."""

    boxes: Literal["pcr", "scr"] = Field(description="pcr: a box for each class; scr: one for all")
    lr_factor: Positive = Field(description="on data.lr, at every training scale")
    annotations: str | None = Field(
        description="a CSV file, or a folder of XML files; null: looked for in the data's folder"
    )


@checked
class Optimizer:
    momentum: Share = Field(description="of stochastic gradient descent")
    weight_decay: Annotated[StrictFloat, Field(ge=0)] = Field(description="factor of the L2 penalty")
    caffe_bias: StrictBool = Field(
        description="biases with twice the learning rate and no decay, as Caffe's VGG and AlexNet files have it"
    )
    nesterov: StrictBool = Field(description="Nesterov's momentum")
    schedule: Schedule | None = Field(
        description="[share of the epochs, factor on the learning rate from there on], ...; null: the plateau rule"
    )

    def __post_init__(self) -> None:
        agree(not self.nesterov or self.momentum > 0, "optimizer.nesterov=true needs optimizer.momentum above 0")
        steps = self.schedule or []
        agree(
            all(0 < share < 1 and factor > 0 for share, factor in steps) and steps == sorted(steps),
            f"optimizer.schedule={steps}: pairs of a share of the epochs, rising from 0 to 1, and a factor",
        )


@checked
class Trainer:
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = Field(description="what computes")
    devices: Annotated[StrictInt, Field(ge=-1)] = Field(description="of each machine; -1: all there are")
    strategy: Literal["auto", "ddp"] = Field(description="ddp: synchronous data parallelism (section 3.3)")
    launch: Literal["lightning", "srun", "torchrun"] = Field(
        description="who starts the ranks: lightning here, srun in a Slurm allocation, torchrun on each machine"
    )
    num_nodes: Count = Field(description="machines, for srun and torchrun")
    node_rank: Annotated[StrictInt, Field(ge=0)] = Field(
        description="torchrun: which of the machines this one is; 0 leads"
    )
    leader: str | None = Field(description="torchrun: host:port of machine 0, the port a free one")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(description="of the arithmetic")
    compile: StrictBool = Field(description="the net by torch.compile, in training")
    micro_batch: Count | None = Field(
        description="images of one forward pass on one device; null: its whole share of data.batch"
    )
    workers: Annotated[StrictInt, Field(ge=0)] | None = Field(
        description="decoding processes of each device; null: two cores fewer than a device has, at most 16"
    )
    checkpoint_minutes: Annotated[StrictFloat, Field(ge=0)] = Field(
        description="between two checkpoints inside an epoch"
    )

    def __post_init__(self) -> None:
        agree(self.devices != 0, "trainer.devices=0: a number of devices, or -1 for all")
        agree(
            self.num_nodes == 1 or self.launch != "lightning",
            f"trainer.num_nodes={self.num_nodes}: several machines need trainer=slurm or trainer=torchrun",
        )
        agree(
            self.launch == "lightning" or self.devices > 0,
            f"trainer.launch={self.launch} needs the number of devices of each machine: trainer.devices=8",
        )
        agree(
            self.node_rank < self.num_nodes,
            f"trainer.node_rank={self.node_rank} is not one of {self.num_nodes} machines, counted from 0",
        )
        agree(
            self.launch != "torchrun" or bool(re.fullmatch(r"[^:]+:\d+", self.leader or "")),
            "trainer.launch=torchrun needs machine 0 and a free port of it: trainer.leader=HOST:29500",
        )


@checked
class Logger:
    wandb: Literal["disabled", "offline", "online"] = Field(description="what goes to W&B beside the CSV files")
    project: str = Field(description="W&B's name for all of these runs")
    group: str | None = Field(description="W&B's name for runs that belong together; null: the data")


@checked
class Dirs:
    runs: Folder = Field(description="the folder of the runs")
    cache: Folder = Field(description="the folder of data that is fetched or made, and of posteriors")


@checked
class Plan:
    dry_run: StrictBool = Field(
        description="print the plan, with what is missing and how long it may take, and do nothing"
    )
    images_per_second: Positive | None = Field(
        description="the training speed of net D, or of model= around it, for that estimate; null: as finished runs on "
        "this data were measured"
    )


@checked
class Ablation:
    """A named plan."""

    cells: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)] = Field(
        description="by the names that their runs have without the data"
    )
    places: list[str] = Field(
        description="evaluate.py: the paper's rows there about these cells, as Table 3; none: each cell, as eval= says"
    )


@checked
class TrainConfig:
    """One cell of the grid on one data set: what train.py composes and a run directory stores."""

    task: Literal[*TASKS] = Field(
        description="classification; localisation: a box predictor; transfer, of evaluate.py: SVMs on descriptors"
    )
    model: Model = Field(description="the net")
    train_scale: TrainScale = Field(description="the training scale S")
    data: Data = Field(description="the images, and what is chosen for them")
    init: Init = Field(description="the weights that training starts from")
    weights: Weights = Field(description="published weights")
    layers: Literal["all", "fc"] = Field(
        description="all, or fc: only the fully-connected layers, fc6, fc7 and fc8, are trained"
    )
    optimizer: Optimizer = Field(description="stochastic gradient descent")
    localisation: Localisation = Field(description="appendix A's box predictor")
    seed: Seed = Field(description="of the random weights, crops, flips, colours and dropout")
    tag: NamePart | None = Field(
        description=f"free text at the end of the run's name, at most {LONGEST} bytes; whitespace becomes _"
    )
    chain: StrictBool = Field(description="train missing parents first; false: they are an error")
    trainer: Trainer = Field(description="the machine's part of training")
    logger: Logger = Field(description="where the curves go")
    dirs: Dirs = Field(description="where runs and caches are")
    plan: Plan = Field(description="what a dry run says")
    ablation: Ablation | None = Field(None, description="a named plan instead of one cell")

    def __post_init__(self) -> None:
        unfit = objection(self.task, self.model.name, self.data.scale, self.data.width, self.init.draw)
        agree(unfit is None, unfit or "")
        if self.weights.source is not None:
            nets = PUBLISHED[self.weights.source]
            agree(
                self.model.name in nets,
                f"weights={self.weights.source} with model={self.model.name}: choose one of {', '.join(nets)}",
            )
            agree(self.init.parent is None, "init.parent and weights= are two things to start from: give one")
        suffix = "|".join((r"fc|noA|seed\d+|loc", *DRAWS, "own", *PUBLISHED))
        agree(
            self.tag is None or not re.match(rf"({suffix})(-|$)", self.tag),
            f"tag={self.tag}: in a run's name this says that another key has a value of its own",
        )

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


@checked
class EvalMethod:
    views: Annotated[list[Literal[*VIEWS]], Field(min_length=1), AfterValidator(distinct)] = Field(
        description="dense, multicrop, center, tencrop; the mean over several"
    )
    softmax: Literal["last", "first"] = Field(
        description="last: scores are averaged over space, then the soft-max; first: the other way round"
    )


@checked
class TestScale:
    rule: Literal["single", "multi"] = Field(description="single (section 4.1) or multi (4.2)")
    q: Sides | None = Field(description="explicit test scales in the paper's pixels, instead of the rule")


@checked
class BoxEvaluation:
    """Appendix A: how the boxes of an image are found; eval_method and test_scale are about its five classes."""

    protocol: Literal["full", "ground_truth"] = Field(
        description="full, or ground_truth: a central crop and the box of the true class"
    )
    q: list[Sides] | None = Field(description="test scales of each run; null: Q as for its training scale")
    labels: list[str] | None = Field(description="classification runs; null: those that the predictors started from")
    k: Count = Field(description="classes that give boxes at a scale")
    t: StrictFloat = Field(description="boxes are merged while their match score is below")


@checked
class Transfer:
    """Appendix B: which descriptors of the images a linear SVM a class is trained on, and on which images."""

    features: Literal[*DESCRIPTORS] = Field(
        description="fc7; random: fc7 of the same net as it was drawn; pixels: what the net is given"
    )
    q: Sides = Field(description="test scales in the paper's pixels")
    combine: Literal["stack", "average"] = Field(description="stack or average the descriptors of several Q")
    train: Annotated[StrictInt, Field(ge=2)] = Field(
        description="images a class to train on, of class folders; one of them at least chooses C"
    )
    test: Count = Field(description="images a class to test on, at most")
    splits: Count = Field(description="into training and test images, drawn anew")
    seed: Seed = Field(description="of those draws, and of the images that choose C")
    train_split: str = Field(description="VOC's own part to train on")
    test_split: str = Field(description="VOC's own part to test on")
    labels: Literal["objects", "actions"] = Field(description="VOC's: objects, or actions of persons")
    person_boxes: StrictBool = Field(description="stack the descriptor of the person's box on the image's")
    c: Annotated[list[Positive], Field(min_length=1), AfterValidator(distinct)] = Field(
        description="candidates for the SVM's C"
    )
    held_out: Annotated[StrictFloat, Field(gt=0, lt=1)] = Field(description="part of the training images; it chooses C")

    def __post_init__(self) -> None:
        agree(
            self.train_split != self.test_split,
            f"transfer.train_split and transfer.test_split are the same, {self.test_split}",
        )
        agree(
            self.labels == "actions" or not self.person_boxes,
            f"transfer.person_boxes=true needs transfer.labels=actions, not {self.labels}",
        )


@checked
class EvaluateConfig(TrainConfig):
    """What evaluate.py composes: which runs, which views at which scales, on which data."""

    runs: Annotated[list[str], Field(min_length=1), AfterValidator(distinct)] | None = Field(
        description="names; null: the one that model, train_scale and so on name"
    )
    eval_method: EvalMethod = Field(description="section 3.2's views of an image")
    test_scale: TestScale = Field(description="the test scales Q")
    box_evaluation: BoxEvaluation = Field(description="appendix A's boxes")
    ceil_mode: StrictBool | None = Field(description="pool this way instead of the run's own")
    submission: str | None = Field(
        description="write ILSVRC's test-server file here instead of scoring the validation images"
    )
    test: str | None = Field(description="the folder of unlabelled test images; null: data.root/test")
    devkit: str | None = Field(description="ILSVRC2012_devkit_t12, a folder or its .tar.gz; null: in data.root")
    eval_batch: Count = Field(description="images that go through the net together")
    transfer: Transfer = Field(description="appendix B's descriptors and SVMs, of task=transfer")
