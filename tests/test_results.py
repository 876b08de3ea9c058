"""Which arrays of posteriors an evaluation needs, and where each of them lies."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import composed

from vgg.core.config import EvaluateConfig
from vgg.evaluation import arrays as evaluation_arrays


def arrays(cfg: EvaluateConfig, weights: str = "w", images: str = "i", view: str = "dense", q: int = 256) -> list:
    run = SimpleNamespace(name="digits/D-256", config=lambda: cfg, record=lambda: {"weights_sha256": weights})
    return evaluation_arrays.arrays_under(cfg, run, SimpleNamespace(sha256=images), [view], [q])


@pytest.fixture(scope="module")
def cfg() -> EvaluateConfig:
    return composed("eval=table3", "train_scale=S256", evaluate=True)


def test_the_key_of_an_array_says_what_it_depends_on_and_each_of_it_is_another_file(cfg):
    (usual,) = arrays(cfg)
    assert vars(usual.key) == {
        "weights": "w",
        "images": "i",
        "view": "dense",
        "q": 256,
        "softmax": "last",
        "ceil_mode": False,
        "mirror": False,  # the digits'
        "precision": "32-true",
        "resampling": "torch-bilinear-antialias",
    }
    changed = {
        "precision": arrays(replace(cfg, trainer=replace(cfg.trainer, precision="bf16-mixed"))),
        "mirror": arrays(replace(cfg, data=replace(cfg.data, mirror=True))),
        "softmax": arrays(replace(cfg, eval_method=replace(cfg.eval_method, softmax="first"))),
        "ceil_mode": arrays(replace(cfg, ceil_mode=True)),
        "weights": arrays(cfg, weights="x"),
        "images": arrays(cfg, images="j"),
        "view": arrays(cfg, view="multicrop"),
        "q": arrays(cfg, q=384),
    }
    for name, (other,) in changed.items():
        assert {key for key, value in vars(other.key).items() if value != vars(usual.key)[key]} == {name}
        assert other.path != usual.path


def test_the_order_of_the_soft_max_is_told_apart_only_where_there_is_a_map(cfg):
    first = replace(cfg, eval_method=replace(cfg.eval_method, softmax="first"))
    (one,), (other,) = arrays(first, view="multicrop"), arrays(cfg, view="multicrop")
    assert one.path == other.path
