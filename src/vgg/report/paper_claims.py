"""What the paper claims (sections 3.1 and 4), as comparisons of top-1 errors. How they are decided: docs/claims.md."""

from dataclasses import dataclass, replace

from vgg.core.catalogue import TRAINING_SCALES
from vgg.core.scales import multi_scale, single_scale
from vgg.evaluation.selection import Cell, net_cell


@dataclass(frozen=True)
class Side:
    """A cell of the grid as it is evaluated: nets, views, and one test scale (section 4.1) or several (4.2)."""

    runs: tuple[str, ...]
    views: tuple[str, ...] = ("dense",)
    several: bool = False

    @property
    def q(self) -> tuple[tuple[int, ...], ...]:
        """Of each net, in the paper's pixels."""
        rule = multi_scale if self.several else single_scale
        return tuple(rule(*next(s for name, s in TRAINING_SCALES.items() if f"-{name}" in run)) for run in self.runs)

    @property
    def cell(self) -> Cell:
        """As evaluations are looked up by it."""
        return net_cell(list(zip(self.runs, self.q, strict=True)), self.views)


@dataclass(frozen=True)
class Claim:
    """A sentence, and the steps that it needs. The mean of the differences y - x of a step's comparisons is tested.

    Signs: y < x; y ≪ x, where x may be at chance; y ≈ x, y ≥ x, y ≤ x within a margin.
    """

    number: str
    section: str
    text: str
    sign: str
    ablation: str  # conf/ablation/'s, which trains and evaluates what is compared
    steps: tuple[tuple[tuple[Side, Side], ...], ...]  # (y, x) of each comparison


def single(*runs: str, view: str = "dense") -> Side:
    return Side(runs, (view,))


def several(*runs: str, views: tuple[str, ...] = ("dense",)) -> Side:
    return Side(runs, views, several=True)


MULTI_CROP, FUSED = ("multicrop",), ("dense", "multicrop")

B, C, D, E = (single(f"{net}-256") for net in "BCDE")

D_JITTER, E_JITTER, BOTH = several("D-jitter"), several("E-jitter"), several("D-jitter", "E-jitter", views=FUSED)

DEEP = [single(f"{net}-{scale}") for net in "CDE" for scale in TRAINING_SCALES]

CLAIMS = (
    Claim(
        *("1", "4.1", "Local response normalisation does not help", "≥", "lrn"),
        (((single("A-LRN-256"), single("A-256")),),),
    ),
    Claim("2a", "4.1", "The error falls with depth", "<", "depth", (((B, single("A-256")),), ((C, B),), ((D, C),))),
    Claim("2b", "4.1", "and saturates at 19 layers", "≈", "depth", (((E, D),),)),
    Claim("3", "4.1", "Additional non-linearity helps", "<", "depth", (((C, B),),)),
    Claim("4", "4.1", "Spatial context helps more", "<", "depth", (((D, C),),)),
    Claim(
        *("5", "4.1", "Small filters beat large ones, on a centre crop", "<", "filter_size"),
        (((single("B-256", view="center"), single("B-5x5-256", view="center")),),),
    ),
    Claim(
        *("6", "4.1", "Training at many scales helps", "<", "train_scale"),
        (tuple((single(f"{net}-jitter"), single(f"{net}-{scale}")) for scale in ("256", "384") for net in "CDE"),),
    ),
    Claim(
        *("7", "4.2", "Several test scales help", "<", "table4"),
        (tuple((replace(side, several=True), side) for side in (B, *DEEP)),),
    ),
    Claim(
        *("8a", "4.3", "Multi-crop is a little better than dense", "<", "table5"),
        (tuple((replace(dense, views=MULTI_CROP), dense) for dense in (D_JITTER, E_JITTER)),),
    ),
    Claim(
        *("8b", "4.3", "and the two complement each other", "<", "table5"),
        tuple(
            tuple((replace(net, views=FUSED), replace(net, views=alone)) for net in (D_JITTER, E_JITTER))
            for alone in (("dense",), MULTI_CROP)
        ),
    ),
    Claim(
        *("9", "4.4", "Two nets beat one", "<", "table6"),
        tuple(((BOTH, replace(net, views=FUSED)),) for net in (D_JITTER, E_JITTER)),
    ),
    Claim(
        *("10", "3.1", "Net A's layers make deep nets trainable at std 0.01", "≪", "init"),
        (((single("D-256-std001"), single("D-256-std001-noA")),),),
    ),
    Claim(
        *("11", "3.1", "Glorot's initialisation makes net A unnecessary", "≤", "init"),
        (((single("D-256-glorot-noA"), single("D-256-std001")),),),
    ),
)


def parent(run: str) -> str | None:
    """The run that a cell's run starts from, by their names; None for random weights, and of a start that is none of
    the claims' nets."""
    if run.endswith("-jitter"):
        return run.replace("-jitter", "-384")
    if run.endswith("-384"):
        return run.replace("-384", "-256")
    return "A-256" if run in ("B-256", "C-256", "D-256", "E-256") else None


def lineage(run: str) -> set[str]:
    """A run and all that it descends from."""
    start = parent(run)
    return {run} | (lineage(start) if start else set())


def related(step: tuple[tuple[Side, Side], ...]) -> bool:
    """Whether both sides of every comparison share a net, or one's nets descend from the other's."""
    return all(
        not set(x.runs).isdisjoint(set().union(*map(lineage, y.runs)))
        or not set(y.runs).isdisjoint(set().union(*map(lineage, x.runs)))
        for y, x in step
    )
