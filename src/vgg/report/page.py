"""Everything about one data set on one page: `python -m vgg report` writes a file that needs nothing but a browser."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vgg.appendix.localisation import tables as localisation_tables
from vgg.appendix.transfer import tables as transfer_tables
from vgg.core.compose import typed
from vgg.core.config import TrainConfig
from vgg.core.files import write_whole
from vgg.core.paths import REPOSITORY
from vgg.core.software import commit
from vgg.evaluation.errors import method_name
from vgg.evaluation.records import Classification, Localisation
from vgg.evaluation.selection import Origins, current, settled
from vgg.report import box_photos, chart_data, charts, claims, image_analysis
from vgg.report.chart_data import order, short, title
from vgg.report.open_questions import cells
from vgg.report.parts import Lacking, part
from vgg.report.tables import described, tables
from vgg.runs.cells import cell_config
from vgg.runs.identity import run_name
from vgg.runs.plan import parent_config
from vgg.runs.run import Run
from vgg.runs.status import in_training

STATES = {
    "done": "finished",
    "elsewhere": "evaluated, its weights are not here",
    "training": "in training",
    "stopped": "interrupted",
    "missing": "not run",
}

FEW = 20  # classes, up to which the whole confusion matrix is shown


def known_runs(data: str, runs: Path) -> list[Run]:
    """Every run on this data that was started here."""
    begun = [Run.named(f"{data}/{path.parent.name}", runs) for path in (runs / data).glob("*/config.yaml")]
    return sorted(begun, key=lambda run: order(run.name))


def parents_of_paper(data: str) -> dict[str, str | None]:
    """The runs of `ablation=paper` on this data, by name, and the runs they start from."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = typed(compose("train", ["ablation=paper"]), TrainConfig)
    cfg = replace(cfg, data=replace(cfg.data, name=data))
    parents: dict[str, str | None] = {}
    for name in cfg.ablation.cells:
        step: TrainConfig | None = cell_config(cfg, name)
        while step is not None:
            start = parent_config(step)
            parents[run_name(step)] = run_name(start) if start else None
            step = start
    return parents


def lineage(data: str, runs: Path, here: list[Run], lines: list[Classification]) -> dict[str, Any]:
    """The graph of the paper's runs and of all others that are here, and how many of each state the paper's are."""
    planned = parents_of_paper(data)
    parents = planned | {run.name: run.record().get("parent") for run in here}
    parents |= {parent: None for parent in set(parents.values()) - set(parents) - {None}}
    evaluated = {name for line in lines for name in line.runs}

    def state(name: str) -> str:
        run = Run.named(name, runs)
        if run.finished:
            return "done"
        if (run.folder / "config.yaml").is_file():
            return "training" if in_training(run) else "stopped"
        return "elsewhere" if name in evaluated else "missing"

    names = sorted(parents, key=order)
    states = {name: state(name) for name in names}
    chart = charts.lineage(
        "lineage",
        "; ".join(f"{name}: {STATES[states[name]]}, from {parents[name] or 'random weights'}" for name in names),
        {name.removeprefix(f"{data}/"): (parents[name] or "").removeprefix(f"{data}/") or None for name in names},
        {name.removeprefix(f"{data}/"): states[name] for name in names},
    )
    return {
        "chart": chart,
        "counts": Counter(states[name] for name in planned),
        "planned": len(planned),
        "more": len(names) - len(planned),
    }


def sources(lines: list[Classification]) -> list[dict[str, str]]:
    """Of each evaluation: what it is, and the command, code and packages that made it."""
    rows = []
    for line in lines:
        names, method, q, _, top1, *_ = cells(line, "")
        settings = ["soft-max first"] if line.softmax == "first" else []
        settings += ["ceil_mode"] if any(line.ceil_mode) else []
        rows.append(
            {
                "evaluation": ", ".join([names, method, f"Q = {q}", *settings]),
                "top-1": f"{top1} %",
                "command": line.command,
                "commit": line.commit or "–",
                "seed": ", ".join(str(seed) for seed in dict.fromkeys(line.seed)),
                "date": line.date,
                "weights": ", ".join(sha256[:8] for sha256 in line.weights_sha256),
                "images": line.images_sha256[:8],
                "versions": ", ".join(f"{name} {number}" for name, number in line.versions.items()),
            }
        )
    return rows


def mistakes(lines: list[Classification], runs: Path, cache: Path) -> dict[str, Any]:
    """Confusion and the hardest images, of the net with the best result at hand."""
    result = image_analysis.best(lines, runs, cache)
    counts, names = image_analysis.confusion(result), result.images.classes
    certain, wrong = image_analysis.hardest(result)
    return {
        "title": f"{title(result.line)}, {method_name(result.line.views)}",
        "line": result.line,
        "names": names,
        "counts": counts.tolist() if len(names) <= FEW else None,
        "pairs": image_analysis.confused(counts, names),
        "certain": part(lambda: image_analysis.cards(result, certain, runs)),
        "wrong": part(lambda: image_analysis.cards(result, wrong, runs)),
    }


def first_filters(runs: list[Run]) -> list[tuple[str, dict[str, Any]]]:
    """Of every finished run: its name and the sheet of its first layer's filters."""
    finished = [run for run in runs if run.finished]
    if not finished:
        raise Lacking("This needs the weights of a finished run.", "python train.py")
    return [(short(run.name), image_analysis.filters(run)) for run in finished]


def write(origins: Origins, cache: Path, path: Path) -> None:
    """Write the page about this data. A part of it that needs what is not on this machine says so."""
    data, runs = origins.data, origins.runs
    lines, begun = settled(current(origins.ours(Classification))), known_runs(data, runs)
    boxes = settled(current(origins.ours(Localisation)))
    usual = [line for line in lines if line.softmax == "last" and not any(line.ceil_mode)]
    groups, decided = chart_data.by_method(usual), claims.decided(origins)
    lowest = min(usual, key=lambda line: line.top1, default=None)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        data=data,
        about=described(origins),
        lines=lines,
        lowest=lowest and (f"{title(lowest)}, {method_name(lowest.views)}", lowest.top1),
        tables=tables(origins),
        box_tables=localisation_tables.tables(origins),
        transfer_tables=transfer_tables.tables(origins),
        of_paper={"paper", "paper's test"}.union(*(columns.values() for columns in transfer_tables.COLUMNS.values())),
        boxes=part(lambda: box_photos.boxed(begun, boxes, cache)),
        claims=decided,
        verdicts=Counter(claim.verdict for claim in decided),
        rule=claims.RULE,
        header=claims.HEADER,
        number=claims.number,
        cells=claims.comparison_cells,
        curves=part(lambda: chart_data.learning_curves(begun)),
        depth=part(lambda: chart_data.depth_chart(usual)),
        depth_of_paper=chart_data.depth_chart(None),
        operations=part(lambda: chart_data.operations_chart(lines)),
        over_q=part(lambda: chart_data.q_charts(usual, runs, cache)),
        methods=part(lambda: chart_data.method_chart(groups)),
        agreements=part(lambda: chart_data.agreements(groups)),
        scatter=part(lambda: chart_data.agreement_chart(groups, runs, cache)),
        mistakes=part(lambda: mistakes(lines, runs, cache)),
        filters=part(lambda: first_filters(begun)),
        lineage=lineage(data, runs, begun, lines),
        states=STATES,
        sources=sources(lines),
        commit=commit(),
    )
    with write_whole(path) as file:
        file.write(page.encode(errors="backslashreplace"))  # names of files may be no text
