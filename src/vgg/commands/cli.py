"""`python -m vgg COMMAND`: everything but training and evaluation, which are train.py and evaluate.py."""

import argparse
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vgg.core.errors import UserError
from vgg.core.paths import cache, expanded
from vgg.launch.processes import end_at_sigterm, mistake, print_any_name, quiet, short_temporary_folder, until_closed

if TYPE_CHECKING:
    from vgg.evaluation.selection import Origins


def fit(arguments: argparse.Namespace) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the training begins, which has something to save
    from pytorch_lightning.utilities import rank_zero_only

    from vgg.commands.fit import fit
    from vgg.data.workers import end_workers
    from vgg.runs.run import Run
    from vgg.training.checkpoints import Interrupted

    quiet()
    run = Run.of(arguments.folder.absolute())
    run.config()  # where there is no run, none is begun
    short_temporary_folder()
    try:
        message = mistake(lambda: fit(run))
    except Interrupted as stop:
        print("stopped, with a checkpoint: the same command goes on from here", flush=True)
        sys.exit(128 + int(stop.args[0]))
    finally:
        end_workers()
    if message and rank_zero_only.rank == 0:
        run.update_record(error=message)  # for the command that started this one to say
        sys.exit(1)
    if message:
        sys.exit(f"error: {message}")


def score(arguments: argparse.Namespace) -> None:
    from vgg.commands.score import score
    from vgg.data.workers import end_workers

    quiet()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to save: a scale and view is kept when it is whole
    end_at_sigterm()
    short_temporary_folder()
    try:
        score(arguments.request.absolute())
    finally:
        end_workers()


def check(arguments: argparse.Namespace) -> None:
    from vgg.data.imagenet.check import check
    from vgg.data.workers import end_workers

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to save
    end_at_sigterm()
    short_temporary_folder()
    try:
        check(arguments.root, arguments.cache, arguments.all)
    finally:
        end_workers()


def origins(arguments: argparse.Namespace) -> "Origins":
    """Whose evaluations a command is about."""
    from vgg.evaluation.selection import Origins

    return Origins(arguments.data, arguments.runs, arguments.mine)


def tables(arguments: argparse.Namespace) -> None:
    from vgg.report.tables import rendered

    print(rendered(origins(arguments), arguments.format))


def claims(arguments: argparse.Namespace) -> None:
    from vgg.report.claims import rendered

    print(rendered(origins(arguments), arguments.format))


def studies(arguments: argparse.Namespace) -> None:
    from vgg.report.open_questions import rendered

    print(rendered(origins(arguments)))


def options(arguments: argparse.Namespace) -> None:
    from vgg.report.option_reference import rendered

    print(rendered(), end="")


def results(arguments: argparse.Namespace) -> None:
    from vgg.report.results_page import rendered, short

    print(short() + "\n" if arguments.short else rendered(), end="")


def keep(arguments: argparse.Namespace) -> None:
    from vgg.evaluation.selection import keep

    for path, lines in keep(arguments.data, arguments.runs).items():
        print(f"{lines} evaluations are in {path}")


def figure(arguments: argparse.Namespace) -> None:
    from vgg.core.paths import REPOSITORY
    from vgg.report.errors_figure import shape

    path = arguments.output or REPOSITORY / "results" / f"{arguments.data}.svg"
    shape(origins(arguments), path)
    print(path)


def export(arguments: argparse.Namespace) -> None:
    from vgg.prediction.export import export
    from vgg.runs.run import Run

    quiet()
    path, use = export(Run.named(arguments.run, arguments.runs), arguments.format, arguments.output)
    print(f"{path}: {use}")


def overview(arguments: argparse.Namespace) -> None:
    from vgg.runs.status import rendered

    print(rendered(arguments.runs))


def compare(arguments: argparse.Namespace) -> None:
    from vgg.report.comparison import rendered

    print(rendered((arguments.one, arguments.other), arguments.runs, arguments.cache))


def clean(arguments: argparse.Namespace) -> None:
    from vgg.runs.cleaning import kinds, remove

    of_name = {kind.name: kind for kind in kinds(arguments.runs, arguments.cache)}
    if unknown := sorted(set(arguments.kinds) - set(of_name)):
        raise UserError(f"{unknown[0]}: choose from {', '.join(of_name)}")
    for name, kind in of_name.items():
        if arguments.kinds and name not in arguments.kinds:
            continue
        print(f"{name:<12}{len(kind.paths):>6} {kind.bytes / 1e6:>10,.1f} MB  {kind.about}")
        if arguments.kinds and name == "unfinished":
            for path in kind.paths:
                print(f"  {path}")
        if name in arguments.kinds and arguments.yes:
            remove(kind)
    if arguments.kinds:
        print("removed" if arguments.yes else "--yes removes them")
    else:
        print(f"python -m vgg clean {' '.join(of_name)} names what goes; finished nets and evaluations' lines stay")


def report(arguments: argparse.Namespace) -> None:
    from vgg.report.page import write

    path = arguments.output or Path(f"{arguments.data}.html")
    write(origins(arguments), arguments.cache, path)
    print(path)


def dashboard(arguments: argparse.Namespace) -> None:
    from vgg.report.wandb_dashboard import save

    for address in save(origins(arguments), arguments.entity, arguments.project):
        print(address)


def predict(arguments: argparse.Namespace) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to save
    from vgg.commands.predict import predict

    quiet()
    predict(arguments.run, arguments.images, arguments.method, arguments.runs, arguments.maps)


def path(text: str) -> Path:
    """An option's value: `--runs=~/runs` reaches a program with its ~."""
    try:
        return Path(expanded(text))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_cache(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--cache", type=path, default=cache(), help=f"{what} (default: ~/.cache/vgg)")


def parser() -> argparse.ArgumentParser:
    """The command line of all commands."""
    parser = argparse.ArgumentParser(prog="python -m vgg", description=__doc__)
    parser.add_argument("--version", action="version", version=f"vgg {version('vgg-paper')}")
    commands = parser.add_subparsers(metavar="COMMAND")
    command = commands.add_parser("fit", help="train or resume the run in a folder that train.py prepared")
    command.add_argument("folder", type=Path)
    command.set_defaults(call=fit)
    command = commands.add_parser("score", help="compute the posteriors that evaluate.py asks for")
    command.add_argument("request", type=Path)
    command.set_defaults(call=score)
    command = commands.add_parser("check", help="what images a folder has, and whether they are whole and readable")
    command.add_argument("root", type=path, help="what data.root= would name")
    command.add_argument("--all", action="store_true", help="decode every image, and verify the archives' MD5s")
    add_cache(command, "where indexes of archives are kept, and the images of parquet files")
    command.set_defaults(call=check)
    for name, call, what in (
        ("tables", tables, "the paper's Tables 3 to 12 and the networks around it, ours beside theirs"),
        ("claims", claims, "the paper's claims, each confirmed, denied or undecided"),
        (
            "studies",
            studies,
            "what the paper leaves open: order of the soft-max, rounding of the pools, the error over Q",
        ),
        ("keep", keep, "copy the evaluations made here to results/, which git keeps"),
        ("figure", figure, "draw the shape of section 4's results, the paper's above ours, as SVG"),
        ("report", report, "write one HTML page with everything: tables, claims, curves, what the nets saw and where"),
        ("dashboard", dashboard, "create or update the W&B workspace and report that compare configurations"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("--data", default="digits", help="the data's name in the runs' names (default: digits)")
        command.add_argument("--runs", type=path, default=Path("runs"), help="the folder of the runs (default: runs)")
        command.set_defaults(call=call)
        if name != "keep":
            command.add_argument("--mine", action="store_true", help="the runs' evaluations, not those of results/")
        if name == "tables":
            command.add_argument("--format", choices=("text", "markdown", "csv", "latex"), default="text")
        if name == "claims":
            command.add_argument("--format", choices=("text", "markdown"), default="text")
        if name == "figure":
            command.add_argument("--output", type=path, help="default: results/DATA.svg")
        if name == "report":
            command.add_argument("--output", type=path, help="default: DATA.html")
            add_cache(command, "where the posteriors and the data are")
        if name == "dashboard":
            command.add_argument("--entity", help="the W&B user or team (default: the one that is logged in)")
            command.add_argument("--project", default="vgg", help="logger.project of the runs (default: vgg)")
    command = commands.add_parser("options", help="every key of train.py and evaluate.py as Markdown")
    command.set_defaults(call=options)
    command = commands.add_parser("results", help="docs/results.md: the claims beside the repository's numbers")
    command.add_argument("--short", action="store_true", help="the README's table: a row a claim")
    command.set_defaults(call=results)
    command = commands.add_parser("runs", help="every run: its state, errors, parent and age")
    command.add_argument("--runs", type=path, default=Path("runs"), help="the folder of the runs (default: runs)")
    command.set_defaults(call=overview)
    command = commands.add_parser("compare", help="two runs: configurations, errors on the same images, curves")
    command.add_argument("one", metavar="RUN", help="its name, as digits/C-256")
    command.add_argument("other", metavar="RUN", help="as digits/D-256")
    command.add_argument("--runs", type=path, default=Path("runs"), help="the folder of the runs (default: runs)")
    add_cache(command, "where the images are")
    command.set_defaults(call=compare)
    command = commands.add_parser("clean", help="what can be removed, with its size; removes what is named, with --yes")
    command.add_argument("kinds", nargs="*", metavar="KIND", help="posteriors, indexes, parquet, unfinished")
    command.add_argument("--yes", action="store_true", help="remove it")
    command.add_argument("--runs", type=path, default=Path("runs"), help="the folder of the runs (default: runs)")
    add_cache(command, "the cache's folder")
    command.set_defaults(call=clean)
    command = commands.add_parser("predict", help="the five most probable classes of photos")
    command.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    command.add_argument("--run", required=True, help="a finished run, as digits/D-jitter, or torchvision:vgg16")
    command.add_argument("--method", default="fused", help="section 3.2's, as eval_method= names it (default: fused)")
    command.add_argument("--maps", type=path, metavar="FOLDER", help="write the score maps over the photos there")
    command.add_argument("--runs", type=path, default=Path("runs"), help="the folder of the runs (default: runs)")
    command.set_defaults(call=predict)
    command = commands.add_parser("export", help="a finished run's net for other programs")
    command.add_argument("run", help="its name, as digits/D-jitter")
    command.add_argument("--format", choices=("torchvision", "safetensors", "onnx"), required=True)
    command.add_argument("--runs", type=path, default=Path("runs"), help="the folder of the runs (default: runs)")
    command.add_argument("--output", type=path, help="default: the run's name in this folder")
    command.set_defaults(call=export)
    return parser


def main() -> None:
    print_any_name()
    arguments = parser().parse_args(sys.argv[1:] or ["--help"])
    if message := mistake(lambda: arguments.call(arguments)):
        sys.exit(f"error: {message}")


def command() -> None:
    """The console script `vgg`."""
    with until_closed():
        main()


if __name__ == "__main__":
    command()
