"""Compute the posteriors or candidates that an evaluation asks for, in a process of its own."""

from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from vgg.appendix.localisation.candidates import BoxScoring
from vgg.appendix.transfer.samples import described_images
from vgg.core.compose import typed
from vgg.core.config import EvaluateConfig
from vgg.core.scales import real_pixels
from vgg.core.software import versions
from vgg.data.workers import Loader, decoding_workers
from vgg.evaluation import posteriors
from vgg.evaluation.images import evaluated_images
from vgg.evaluation.scoring import Scoring, WholeImages, batches, collate, sizes
from vgg.launch.ranks import together
from vgg.launch.trainer import device_name, lightning_trainer
from vgg.nets import initialisation
from vgg.runs import weights
from vgg.runs.run import Run


def score(request: Path) -> None:
    """Compute and keep the arrays that the request names: one run's, over the ranks of its trainer.

    The request is a YAML file: `run`, `tasks` (view, q, path) and the evaluation's configuration; for boxes also
    `classes`, a file with those of each image, and the run that is their `classifier`. An image that cannot be read has
    no row; where such images may not be skipped, the first array is the last.
    """
    content = OmegaConf.load(request)
    cfg = typed(content.config, EvaluateConfig)
    run = Run.named(content.run, cfg.dirs.runs)
    net, classes = weights.load(run, "localisation" if cfg.task == "localisation" else "classification")
    classifier = weights.load(Run.named(content.classifier, cfg.dirs.runs))[0] if content.get("classifier") else None
    if any(task.view == "random" for task in content.tasks):  # an evaluation has one kind of descriptors
        own = run.config()
        initialisation.draw(net, own.init.draw, own.seed)
    if cfg.ceil_mode is not None:
        net.ceil_mode = cfg.ceil_mode
    images = described_images(cfg) if cfg.task == "transfer" else evaluated_images(cfg, classes)
    trainer = lightning_trainer(cfg.trainer, logger=False)
    shapes = sizes(images, quiet=not trainer.is_global_zero)
    with together(trainer, f"lower eval_batch, now {cfg.eval_batch}; in training it is trainer.micro_batch"):
        for task in content.tasks:
            side = real_pixels(task.q, net.scale)
            mine = batches(shapes, side, cfg.eval_batch)[trainer.global_rank :: trainer.world_size]
            loader = Loader(
                WholeImages(images, side),
                batch_sampler=mine,
                collate_fn=collate,
                num_workers=decoding_workers(cfg.trainer.workers, trainer.world_size // cfg.trainer.num_nodes),
            )
            if cfg.task == "localisation":
                scoring = BoxScoring(net, classifier, np.load(content.classes, allow_pickle=False))
            else:
                scoring = Scoring(net, images, task.view, cfg.eval_method.softmax, cfg.data.mirror)
            trainer.test(scoring, loader, verbose=False)
            shards = [request.with_name(f"rank{rank}.npz") for rank in range(trainer.world_size)]
            scoring.save(shards[trainer.global_rank])
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                origin = {"versions": versions(), "device": device_name(trainer.strategy.root_device)}
                origin |= {"precision": cfg.trainer.precision, "content": images.content}
                scoring.merge(shards, Path(task.path), origin)
            trainer.strategy.barrier()
            if not cfg.data.skip_corrupt and posteriors.left_out(Path(task.path)):
                break
