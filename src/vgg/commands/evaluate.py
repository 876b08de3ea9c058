"""evaluate.py: evaluate a run, several nets or an ablation."""

import time
from dataclasses import replace

from vgg.core.config import EvaluateConfig, TestScale
from vgg.core.errors import UserError, require
from vgg.core.paper import BoxRow, ErrorRow, paper_rows
from vgg.core.text import duration
from vgg.evaluation.arrays import evaluated_runs, scales_for
from vgg.evaluation.classification import evaluate, submit
from vgg.evaluation.errors import method_name
from vgg.report.wandb_evaluations import log_evaluation
from vgg.runs.cells import cell_config, scale_of
from vgg.runs.identity import run_name


def evaluations(cfg: EvaluateConfig) -> list[EvaluateConfig]:
    """What an ablation evaluates: the rows of its tables in the paper, or each of its cells as configured."""
    if cfg.ablation is None:
        return [cfg]
    single = replace(cfg, ablation=None)
    if not cfg.ablation.places:
        return [replace(single, runs=[run_name(cell_config(single, cell))]) for cell in cfg.ablation.cells]
    cells = set(cfg.ablation.cells)
    rows = [row for row in paper_rows() if row.place in cfg.ablation.places and cells.issuperset(row.runs)]
    distinct = {(row.runs, getattr(row, "views", None), getattr(row, "protocol", None), row.q): row for row in rows}
    return [row_config(single, row) for row in distinct.values()]


def row_config(cfg: EvaluateConfig, row: ErrorRow | BoxRow) -> EvaluateConfig:
    """The evaluation of a row of Tables 3 to 6, or 8 and 9, with nets of ours."""
    named = replace(cfg, runs=[run_name(cell_config(cfg, cell)) for cell in row.runs])
    if isinstance(row, BoxRow):
        how = replace(cfg.box_evaluation, protocol=row.protocol, q=[list(q) for q in row.q])
        return replace(named, task="localisation", box_evaluation=how)
    return replace(
        named,
        eval_method=replace(cfg.eval_method, views=list(row.views)),
        test_scale=TestScale(rule="single" if len(row.q[0]) == 1 else "multi", q=None),
    )


def evaluate_all(cfg: EvaluateConfig) -> None:
    """Evaluate the run, the nets or the ablation that the configuration names; dry runs only say what is missing."""
    named = [key for key in ("runs", "ablation") if getattr(cfg, key) is not None]
    named += ["weights"] if cfg.weights.source is not None and cfg.runs is not None else []
    require(len(named) < 2, f"{'= and '.join(named)}= name nets in two ways: give one of them")
    if cfg.task == "transfer":
        from vgg.appendix.transfer import evaluation as transfer_evaluation  # which imports scikit-learn

        if line := transfer_evaluation.evaluate(cfg):
            log_evaluation(cfg, line)
        return

    require(cfg.submission is None or cfg.ablation is None, "submission=FILE is about one evaluation, not an ablation")
    if cfg.plan.dry_run:
        print(needed_disk(cfg))
    missing, begun, asked = [], time.monotonic(), evaluations(cfg)
    for number, one in enumerate(asked, start=1):
        if len(asked) > 1 and not cfg.plan.dry_run:
            print(f"\nevaluation {number} of {len(asked)}", flush=True)
        try:
            if cfg.plan.dry_run:
                evaluated_runs(one)
                print(f"to evaluate: {' + '.join(one.runs or [run_name(one)])}, {method_name(one.eval_method.views)}")
            elif cfg.submission is not None:
                submit(one)
            elif one.task == "localisation":
                from vgg.appendix.localisation import evaluation as localisation_evaluation  # with torch

                log_evaluation(one, localisation_evaluation.evaluate(one))
            else:
                log_evaluation(one, evaluate(one))
        except UserError as error:
            missing.append(str(error))
    if missing:
        raise UserError("\n".join(dict.fromkeys(missing)))
    if len(asked) > 1 and not cfg.plan.dry_run:
        print(f"\n{len(asked)} evaluations in {duration(time.monotonic() - begun)}")


def needed_disk(cfg: EvaluateConfig) -> str:
    """A dry run's line on the arrays of posteriors, which evaluations share."""
    from vgg.runs.estimate import posterior_bytes  # which imports torch

    arrays = set()
    for one in evaluations(cfg):
        for name in one.runs or [run_name(one)]:
            scale = scale_of(name) or one.train_scale
            arrays |= {(name, view, q) for view in one.eval_method.views for q in scales_for(one, scale)}
    size = posterior_bytes(cfg)
    return f"{len(arrays)} arrays of posteriors of {size / 1e6:.1f} MB: {len(arrays) * size / 1e9:.2f} GB in the cache"
