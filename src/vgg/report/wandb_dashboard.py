"""Configurations compared in W&B: a workspace and a report, made from code and brought up to date by the same command.

`python -m vgg dashboard`. Curves and errors are W&B's own panels over the runs of the project; the paper's tables and
the claims are markdown from the evaluations on this disk.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import wandb
import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports.v2.interface import Panel

from vgg.core.errors import UserError, require
from vgg.core.files import write_whole
from vgg.evaluation.selection import Origins
from vgg.report import claims, tables
from vgg.training import wandb_session

MODEL, SCALE = "model.name", "train_scale.name"  # configuration keys, those of the Hydra groups

VALIDATION = "val/top1_error"  # one centre crop, in training

TABLE_3, OVER_Q = "dense_single/top1", "dense_over_q/top1"

SHOWN = 100  # runs, or groups of them, in one panel

SEVERAL_SCALES = ["dense_multi/top1", "multicrop_multi/top1", "fused_multi/top1"]  # Tables 4 and 5


@dataclass(frozen=True)
class Comparison:
    """A section of the workspace and of the report."""

    title: str
    text: str
    panels: list[Panel]
    groups: list[str] = field(default_factory=list)  # configuration keys; runs that share their values are one curve


def wide() -> wr.Layout:
    """The whole width of a report; its own for each panel, since the library moves them apart."""
    return wr.Layout(w=24, h=10)


def curve(title: str, *metrics: str, log: bool = False) -> wr.LinePlot:
    return wr.LinePlot(
        title=title,
        x="epoch",
        y=list(metrics),
        title_x="epoch",
        log_y=log,
        groupby_rangefunc="minmax",
        max_runs_to_show=SHOWN,
    )


def over(title: str, x: str, x_title: str, metric: str, group: str) -> wr.LinePlot:
    """Errors of many evaluations as a line a group: the mean over seeds, with their range."""
    return wr.LinePlot(
        title=title,
        x=x,
        y=[metric],
        title_x=x_title,
        title_y="top-1 error, %",
        groupby=wr.Config(group),
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=SHOWN,
        layout=wide(),
    )


def coordinates(title: str, metric: str) -> wr.ParallelCoordinatesPlot:
    """A line a run through its net, training scale, seed and error."""
    keys = {MODEL: "net", SCALE: "training scale", "seed": "seed"}
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(key), display_name=name) for key, name in keys.items()]
    columns.append(wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(metric), display_name="top-1 error, %"))
    return wr.ParallelCoordinatesPlot(title=title, columns=columns, layout=wide())


def comparisons() -> list[Comparison]:
    """What both show, in the paper's order."""
    return [
        Comparison(
            "Training",
            "Learning curves, one for each net and training scale; a band is the range over seeds.",
            [
                curve("Training loss", "train/loss"),
                curve("Top-1 error, training and validation, %", "train/top1_error", VALIDATION),
                curve("Top-5 error, training and validation, %", "train/top5_error", "val/top5_error"),
                curve("Learning rate", "lr", log=True),
                curve("Images a second", "images_per_second"),
                wr.MediaBrowser(title="Training crops at their S", media_keys=["training_crops"], num_columns=8),
            ],
            [MODEL, SCALE],
        ),
        Comparison(
            "Error against depth",
            "Section 4.1, Table 3: dense, one test scale. C and D have 16 layers both.",
            [over("Error against depth, by training scale", "depth", "weight layers", TABLE_3, SCALE)],
        ),
        Comparison(
            "Error against Q",
            "Dense evaluation at one test scale: the smaller side of the image, in pixels of a 224 crop.",
            [over("Error against the test scale Q, by net", "q", "Q", OVER_Q, "cell")],
        ),
        Comparison(
            "Dense, multi-crop, and both",
            "Sections 4.2 and 4.3: several test scales.",
            [
                wr.BarPlot(
                    title="Top-1 error over several test scales, %",
                    metrics=SEVERAL_SCALES,
                    groupby=wr.Config("cell"),
                    groupby_aggfunc="mean",
                    groupby_rangefunc="minmax",
                    max_runs_to_show=SHOWN,
                    max_bars_to_show=SHOWN,
                    layout=wide(),
                )
            ],
        ),
        Comparison(
            "The grid",
            "Net, training scale, seed and error of every run.",
            [
                coordinates("In training: one centre crop", VALIDATION),
                coordinates("Evaluated: dense, one test scale", TABLE_3),
            ],
        ),
    ]


def workspace(origins: Origins, entity: str, project: str) -> ws.Workspace:
    """The runs on this data with a section for each comparison, and the tables and claims as they stand."""
    data = origins.data
    texts = [tables.rendered(origins, "markdown"), claims.rendered(origins, "markdown")]
    named = {comparison.title: comparison.panels for comparison in comparisons()}
    named["The paper's tables and claims"] = [wr.MarkdownPanel(markdown=text) for text in texts]
    sections = [
        ws.Section(
            name=title,
            panels=panels,
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=min(len(panels), 3), rows=-(-len(panels) // 3)),
        )
        for title, panels in named.items()
    ]
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Configurations compared on {data}",
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=SHOWN),
        runset_settings=ws.RunsetSettings(
            filters=expr.And(expr.Config("dataset") == data),
            groupby=[expr.Config(MODEL), expr.Config(SCALE)],
            pinned_columns=[f"summary:{name}" for name in (VALIDATION, TABLE_3, *SEVERAL_SCALES)],
        ),
    )


def report(origins: Origins, entity: str, project: str) -> wr.Report:
    """The same comparisons with their sections' numbers, then the paper's tables beside ours and the claims."""
    data, blocks = origins.data, [wr.TableOfContents(), wr.MarkdownBlock(tables.described(origins))]
    for comparison in comparisons():
        runset = wr.Runset(
            entity=entity,
            project=project,
            name=data,
            filters=expr.And(expr.Config("dataset") == data),
            groupby=[f"config.{key}" for key in comparison.groups],
        )
        blocks += [
            wr.H2(comparison.title),
            wr.P(comparison.text),
            wr.PanelGrid(runsets=[runset], panels=comparison.panels),
        ]
    blocks += [
        wr.H2("The paper's tables"),
        wr.MarkdownBlock(tables.rendered(origins, "markdown")),
        wr.H2("The paper's claims"),
        wr.MarkdownBlock(claims.rendered(origins, "markdown")),
    ]
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Configurations compared on {data}",
        description="Very Deep Convolutional Networks for Large-Scale Image Recognition, reproduced",
        blocks=blocks,
        width="fluid",
    )


def save(origins: Origins, entity: str | None, project: str) -> list[str]:
    """Create both in W&B, or bring up to date what was saved before; their addresses.

    The addresses are kept in runs/<data>/wandb-dashboard.json. UserError where nobody is logged in or W&B fails.
    """
    wandb_session.require_login()
    path = origins.runs / origins.data / "wandb-dashboard.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    try:
        owner = entity or wandb.Api().default_entity
        require(bool(owner), "W&B does not say whose project it is: name the user or team with --entity")
        projects = [one.name for one in wandb.Api().projects(owner)]
        require(project in projects, f"{owner} has no project {project} in W&B: wandb sync the runs first")
        saved = kept.setdefault(f"{owner}/{project}", {})
        for made in (workspace(origins, owner, project), report(origins, owner, project)):
            kind = type(made).__name__.lower()
            saved[kind] = updated(made, saved.get(kind), path).save().url
            with write_whole(path) as file:
                file.write(json.dumps(kept, indent=1).encode())
    except wandb_session.failures() as error:
        raise UserError(f"W&B failed: {wandb_session.first_line(error)}") from error
    return list(saved.values())


def updated(made: ws.Workspace | wr.Report, address: str | None, kept: Path) -> ws.Workspace | wr.Report:
    """What stands at this address in W&B with the contents of the one made here; that itself where there is none."""
    if address is None:
        return made
    try:
        saved = type(made).from_url(address)
    except (ValueError, TypeError) as error:  # what the library raises where nothing is there
        raise UserError(f"{address} cannot be read. If it was deleted in W&B, remove {kept}") from error
    contents = ("sections", "settings", "runset_settings") if isinstance(made, ws.Workspace) else ("blocks", "width")
    for name in contents:
        setattr(saved, name, getattr(made, name))
    return saved
