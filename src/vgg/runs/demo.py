"""A trained net to look at where none was asked for, as in the notebooks."""

from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir

from vgg.core.compose import typed
from vgg.core.config import TrainConfig
from vgg.core.paths import REPOSITORY
from vgg.runs import plan
from vgg.runs.identity import run_name
from vgg.runs.run import Run

QUICK = ("model=A", "train_scale=S256", "data.epochs=2", "trainer=cpu", "logger=csv")


def run_at_hand(runs: Path = Path("runs")) -> Run:
    """The demo's finished run, digits/D-jitter, where `make demo` left it; else digits/A-256-epochs2 in `runs`.

    That one is trained here if need be: two of A-256's ten epochs, half a minute. It is wrong more often
    than right.
    """
    demo = Run.named("digits/D-jitter", REPOSITORY / "runs")
    if demo.finished:
        return demo
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = typed(compose("train", overrides=list(QUICK)), TrainConfig)
    cfg = replace(cfg, dirs=replace(cfg.dirs, runs=str(runs)))
    run = Run.named(run_name(cfg), runs)
    if not run.finished:
        plan.train_step(plan.Step(run, cfg, None))
    return run
