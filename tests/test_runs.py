import errno
import re
import shutil
from dataclasses import replace

import pytest
from conftest import composed
from omegaconf import OmegaConf

from vgg.commands import evaluate as commands_evaluate
from vgg.core import compose
from vgg.core.catalogue import MODELS
from vgg.core.errors import UserError
from vgg.runs import cells, plan
from vgg.runs import identity as runs_identity
from vgg.runs.identity import differences, identity, run_name
from vgg.runs.run import SCHEMA_VERSION, Run, without_seed


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ((), "digits/D-jitter"),
        (("model=A", "train_scale=S256"), "digits/A-256"),
        (("init=std001",), "digits/D-jitter-std001"),
        (("init=glorot",), "digits/D-jitter"),  # the data option's default
        (("init.from_a=false", "seed=2", "layers=fc", "init=kaiming"), "digits/D-jitter-fc-kaiming-noA-seed2"),
        (("tag=wide", "data.width=0.25"), "digits/D-jitter-width0.25-wide"),
        (("data.draw=std001",), "digits/D-jitter-std001"),
        (("model=A", "train_scale=S256", "data.lr=0.01", "seed=2"), "digits/A-256-seed2-lr0.01"),
        (
            ("data.lr=1e-5", "data.batch=64", "optimizer.caffe_bias=true"),
            "digits/D-jitter-batch64-lr1e-05-caffe_biastrue",
        ),
        (("data.epochs=9", "data.finetune_epochs=3"), "digits/D-jitter-epochs9-finetune_epochs3"),
        (("train_scale.smin=300", "data.dropout=0.25"), "digits/D-jitter-dropout0.25-smin300"),
        (("init.parent=imagenette/D-256",), "digits/D-jitter-init.parentimagenette_D_256"),
        (
            ("task=localisation", "train_scale.lr_factor=0.2", "localisation.lr_factor=0.4"),
            "digits/D-jitter-loc-pcr-train_scale.lr_factor0.2-localisation.lr_factor0.4",
        ),
        (("optimizer.schedule=[[0.5,0.1]]",), "digits/D-jitter-schedule0.5_0.1"),
        (("model=lenet5", "train_scale=S256"), "digits/lenet5-256"),  # with its recipe
        (("model=googlenet", "data.batch=64"), "digits/googlenet-jitter-batch64"),
        (("trainer.precision=bf16-mixed", "trainer.micro_batch=2"), "digits/D-jitter"),  # a result line's own column
        (("data=folder", "data.root=/some/photos"), "photos/D-jitter"),
        (("data=imagenet", "data.root=/x"), "imagenet/D-jitter"),
    ],
)
def test_run_name_has_one_suffix_for_each_choice_that_differs_from_the_data_default(overrides, name):
    assert run_name(composed(*overrides)) == name


@pytest.mark.parametrize(("data", "suffix"), [("digits", "-scale1"), ("imagenet", "")])
def test_a_nets_own_recipe_is_no_part_of_its_name(data, suffix):
    for net in MODELS:
        cfg = composed(f"data={data}", f"model={net}", "data.root=/x", "data.scale=1")
        assert run_name(cfg) == f"{data}/{net}-jitter{suffix}"


@pytest.mark.parametrize(
    ("override", "stage"),
    [
        ("data.finetune_epochs=2", "train_scale=S256"),
        ("data.patience=1", "optimizer.schedule=[[0.5,0.1]]"),
        ("localisation.lr_factor=0.5", "train_scale=S384"),
        ("data.epochs=20", "init.parent=imagenette/D-256 data.finetune_epochs=3"),  # epochs are of the first stage
    ],
)
def test_what_changes_nothing_in_a_run_is_no_part_of_its_identity(override, stage):
    before, after = composed(*stage.split()), composed(*stage.split(), override)
    assert differences(before, after) == []
    assert run_name(before) == run_name(after)


def test_another_training_scale_is_a_suffix_of_an_options_name_and_no_name():
    with pytest.raises(UserError, match=r"train_scale.name=320: there are 256, 384, jitter.*train_scale.smin"):
        run_name(composed("train_scale.name=320", "train_scale.smin=320", "train_scale.smax=320"))
    name = run_name(composed("train_scale=S384", "train_scale.smin=320", "train_scale.smax=330"))
    assert name == "digits/D-384-smin320-smax330"
    assert (cells.scale_of(name).smin, cells.scale_of(name).smax) == (320, 330)


@pytest.mark.parametrize(
    ("overrides", "lineage"),
    [
        (("model=A", "train_scale=S256"), ["A-256"]),
        (("model=D", "train_scale=S256"), ["A-256", "D-256"]),
        (("model=D", "train_scale=jitter"), ["A-256", "D-256", "D-384", "D-jitter"]),
        (("model=A-LRN", "train_scale=S256"), ["A-LRN-256"]),
        (("model=B-5x5", "train_scale=S256"), ["B-5x5-256"]),
        (("model=D", "layers=fc"), ["A-256", "D-256", "D-384", "D-jitter-fc"]),
        (("model=E", "train_scale=S384", "init.from_a=false"), ["E-256-noA", "E-384-noA"]),
        (("model=D", "train_scale=S256", "init=std001"), ["A-256-std001", "D-256-std001"]),
        (("model=D", "train_scale=S256", "seed=3"), ["A-256-seed3", "D-256-seed3"]),
    ],
)
def test_lineage_is_the_papers(overrides, lineage, tmp_path):
    steps = plan.lineage(composed(*overrides, f"dirs.runs={tmp_path}"))
    assert [step.run.name.split("/")[1] for step in steps] == lineage
    assert [step.parent.name if step.parent else None for step in steps] == [
        None,
        *(step.run.name for step in steps[:-1]),
    ]


def test_a_data_option_of_ones_own_has_names_without_its_values(tmp_path, monkeypatch):
    shutil.copytree(runs_identity.CONF, tmp_path / "conf")
    (tmp_path / "conf/data/flowers.yaml").write_text("defaults: [folder, _self_]\nname: flowers\nepochs: 60\n")
    for module in (runs_identity, compose):
        monkeypatch.setattr(module, "CONF", tmp_path / "conf")
    runs_identity.data_option.cache_clear()
    given = ("data=folder", "data.root=/x", "data.name=flowers")
    assert run_name(composed(*given, "data.epochs=60")) == "flowers/D-jitter"
    assert run_name(composed(*given)) == "flowers/D-jitter-epochs30"
    assert runs_identity.data_option("flowers", "digits") == "digits"
    runs_identity.data_option.cache_clear()


def test_parent_has_the_childs_configuration_but_for_model_scale_and_layers(tmp_path):
    steps = plan.lineage(composed("layers=fc", "data.lr=0.01", "seed=5", f"dirs.runs={tmp_path}"))
    for step in steps[:-1]:
        assert {line.split(":")[0].split(".")[0] for line in differences(step.cfg, steps[-1].cfg)} <= {
            "model",
            "train_scale",
            "layers",
        }
    assert [step.cfg.learning_rate for step in steps] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    first = steps[0].cfg.data.epochs
    assert [step.cfg.epochs for step in steps] == [first, first, first / 2, first / 2]


def test_stages_after_the_first_have_half_the_epochs_rounded_up():
    assert composed("data=imagenet", "data.root=/x").epochs == 37
    assert composed("data=imagenet", "data.root=/x", "data.epochs=5").epochs == 3
    assert composed("data=imagenet", "data.root=/x", "train_scale=S256").epochs == 74


def names_of(*overrides):
    return [step.run.name.split("/")[1] for step in plan.planned(composed(*overrides))]


def test_an_ablation_is_the_union_of_its_cells_lineages_each_run_once(tmp_path):
    elsewhere = f"dirs.runs={tmp_path}"
    assert names_of("ablation=depth", elsewhere) == ["A-256", "B-256", "C-256", "D-256", "E-256"]
    assert names_of("ablation=lrn", elsewhere) == ["A-256", "A-LRN-256"]
    assert names_of("ablation=filter_size", elsewhere) == ["A-256", "B-256", "B-5x5-256"]
    paper = names_of("ablation=paper", elsewhere)
    assert len(paper) == len(set(paper)) == 14
    assert {"A-LRN-256", "B-5x5-256", "D-jitter-fc", "E-jitter"} <= set(paper)
    init = names_of("ablation=init", elsewhere)
    assert {"A-256", "D-256", "D-256-noA", "A-256-std001", "D-256-std001", "D-256-kaiming-noA"} <= set(init)
    assert len(names_of("ablation=train_scale", elsewhere)) == 10


@pytest.mark.parametrize(("table", "count"), [(3, 12), (4, 10), (5, 6), (6, 4)])
def test_evaluating_a_table_is_evaluating_its_rows(table, count):
    found = commands_evaluate.evaluations(composed(f"ablation=table{table}", "seed=2", evaluate=True))
    assert len(found) == count
    assert all(name.endswith("-seed2") for one in found for name in one.runs)
    trained = {step.run.name for step in plan.planned(composed(f"ablation=table{table}", "seed=2"))}
    assert {name for one in found for name in one.runs} <= trained


def test_an_ablation_about_depth_is_evaluated_by_its_rows_of_table_3():
    found = commands_evaluate.evaluations(composed("ablation=depth", evaluate=True))
    assert [one.runs for one in found] == [[f"digits/{net}-256"] for net in "ABCDE"]
    assert all(one.test_scale.rule == "single" for one in found)
    assert (
        len(commands_evaluate.evaluations(composed("ablation=filter_size", "eval_method=center", evaluate=True))) == 2
    )


def test_boxes_are_evaluated_by_every_row_of_tables_8_and_9():
    found = commands_evaluate.evaluations(composed("ablation=localisation", evaluate=True))
    assert [one.box_evaluation.protocol for one in found] == ["ground_truth"] * 3 + ["full"] * 4


def test_a_cell_that_is_none_is_refused():
    with pytest.raises(UserError, match="F-256"):
        plan.planned(composed("+ablation={cells: [F-256], places: []}"))


def test_chain_false_makes_a_missing_parent_an_error_with_its_command(tmp_path):
    with pytest.raises(UserError, match=r"python train.py model=A train_scale=S256"):
        plan.lineage(composed("train_scale=S256", "init=std001", "chain=false", f"dirs.runs={tmp_path}"))


def test_missing_named_parent_is_an_error(tmp_path):
    with pytest.raises(UserError, match="imagenette/D-256"):
        plan.lineage(composed("init.parent=imagenette/D-256", f"dirs.runs={tmp_path}"))


MACHINE = ("trainer=ddp", "logger=csv", "trainer.workers=7", "dirs.cache=/c", "data.root=/elsewhere", "chain=false")


def test_devices_workers_logger_and_paths_are_not_identity():
    assert identity(composed(*MACHINE)) == identity(composed())


@pytest.mark.parametrize(
    "override",
    [
        "model=E",
        "train_scale=S384",
        "init=std001",
        "init.parent=x/D-256",
        "init.from_a=false",
        "data.lr=0.1",
        "data.batch=64",
        "data.epochs=9",
        "data.scale=0.5",
        "data.width=1",
        "seed=2",
        "model.ceil_mode=true",
        "model.dropout=0.1",
        "optimizer.momentum=0.8",
        "optimizer.caffe_bias=true",
        "optimizer.weight_decay=0",
        "optimizer.nesterov=true",
        "data.finetune_epochs=2",
        "data.draw=std001",
        "train_scale.smin=300",
        "train_scale.lr_factor=1",
        "train_scale.parent=S256",
        "trainer.precision=bf16-mixed",
    ],
)
def test_everything_that_changes_the_weights_is_identity_and_told_by_the_name(override):
    assert differences(composed(), composed(override))
    cell = without_seed(run_name(composed(override)).partition("/")[2])
    if override == "trainer.precision=bf16-mixed":  # which result lines carry beside the name
        assert cell == "D-jitter"
    elif cells.CELL.fullmatch(cell):
        assert run_name(cells.cell_config(composed(), cell)) == f"digits/{cell}"
        assert identity(cells.cell_config(composed(), cell)) | {"seed": 0} == identity(composed(override)) | {"seed": 0}
    else:
        assert cells.CELL.match(cell)[0] == "D-jitter"


def test_same_name_with_another_identity_is_refused_naming_the_key(tmp_path):
    run = Run.named("digits/D-jitter", tmp_path)
    run.prepare(composed(), None)
    run.prepare(composed(*MACHINE), None)
    with pytest.raises(UserError, match=rf"data.lr: {composed().data.lr:g}, now 0.01"):
        run.prepare(composed("data.lr=0.01"), None)


def test_a_stored_configuration_reads_back_the_same_and_another_versions_is_refused(tmp_path):
    run, cfg = Run.named("digits/D-jitter", tmp_path), composed("tag=x", "init.from_a=false")
    run.prepare(cfg, None)
    assert run.config() == cfg
    path = run.folder / "config.yaml"
    stored = OmegaConf.load(path)
    older = OmegaConf.create(OmegaConf.to_container(stored) | {"schema_version": 2})
    del older.data["cache"], older.data["val_share"]  # which came later
    OmegaConf.save(older, path)
    assert run.config() == cfg
    for version in (None, 1, SCHEMA_VERSION + 1, "x"):
        stored.schema_version = version
        OmegaConf.save(stored, path)
        with pytest.raises(UserError, match=rf"^{path} is of another version of this code .*remove {run.folder}$"):
            run.config()
    del stored["schema_version"]
    OmegaConf.save(stored, path)
    with pytest.raises(UserError, match=rf"schema_version=null, here {SCHEMA_VERSION}"):
        run.prepare(cfg, None)


@pytest.mark.parametrize("content", ["", "[1", "- 1\n", "\x00", "a: ${b"])
def test_a_damaged_configuration_is_named(content, tmp_path):
    run = Run.named("digits/D-jitter", tmp_path)
    run.prepare(composed(), None)
    (run.folder / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=rf"^{run.folder}/config.yaml is .*remove {run.folder}$"):
        run.config()


@pytest.mark.parametrize("content", [b"", b'{"run": ', b"[]", b"\xff"])
def test_a_damaged_record_is_named(content, tmp_path):
    run = Run.named("digits/D-jitter", tmp_path)
    run.prepare(composed(), None)
    (run.folder / "record.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"^{run.folder}/record.json is damaged .*remove {run.folder}$"):
        run.record()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("train_scale.parent=foo",),
            "train_scale.parent=foo: there is no such option, choose one of S256, ",
        ),
        (("train_scale.parent=s384",), "did you mean train_scale.parent=S384?"),
        (("model=D", "train_scale=S256", "layers=fc"), "layers=fc: the convolutions of digits/D-256-fc are random"),
        (("model=A", "train_scale=S256", "layers=fc"), "layers=fc: the convolutions of digits/A-256-fc are random"),
    ],
)
def test_a_lineage_that_cannot_be_is_refused(overrides, message, tmp_path):
    with pytest.raises(UserError, match=re.escape(message)):
        plan.lineage(composed(*overrides, f"dirs.runs={tmp_path}"))


def test_a_parent_of_another_scale_is_named_in_the_plan_and_in_the_record(tmp_path):
    """Shapes do not tell scales apart."""
    parent = Run.named("digits/D-256-scale0.25", tmp_path)
    parent.prepare(composed("model=D", "train_scale=S256", "data.scale=0.25"), None)
    parent.weights.touch()
    for name, scale in (("D-256-scale0.25", " of scale 0.25"), ("D-256", "")):
        own = Run.named("digits/D-256", tmp_path)
        own.prepare(composed("model=D", "train_scale=S256"), None)
        own.weights.touch()
        (step,) = plan.lineage(composed("tag=child", f"init.parent={name}", f"dirs.runs={tmp_path}"))
        assert step.state == f"to train, from digits/{name}{scale}"
        step.run.prepare(step.cfg, step.parent)
        assert step.run.record()["parent_scale"] == (0.25 if scale else 0.125)


def test_a_scale_from_another_parent_has_a_name_of_its_own_and_never_starts_from_itself(tmp_path):
    names = [
        step.run.name
        for step in plan.lineage(composed("train_scale=S384", "train_scale.parent=jitter", f"dirs.runs={tmp_path}"))
    ]
    assert names == [
        f"digits/{name}" for name in ("A-256", "D-256", "D-384", "D-jitter", "D-384-train_scale.parentjitter")
    ]


def test_data_folder_without_a_root_is_refused():
    with pytest.raises(UserError, match="data.root"):
        composed("data=folder")


def test_a_lock_is_released_with_its_last_holder(tmp_path):
    run = Run.named("digits/A-256", tmp_path)
    with run.lock():
        pass
    with run.lock() as descriptor:
        assert descriptor > 2


def test_a_disk_without_locks_is_said_to_be_one(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(UserError, match="a disk without locks"), Run.named("digits/A-256", tmp_path).lock():
        pass


def test_eval_presets_are_combinations_of_two_groups_and_an_explicit_group_wins():
    fused = composed("eval=fused", evaluate=True)
    assert (fused.eval_method.views, fused.test_scale.rule) == (["dense", "multicrop"], "multi")
    assert composed("eval=fused", "test_scale=single", evaluate=True).test_scale.rule == "single"
    table3 = composed("eval=table3", evaluate=True)
    assert (table3.eval_method.views, table3.test_scale.rule) == (["dense"], "single")
    assert composed("eval=table4", "eval_method=tencrop", evaluate=True).eval_method.views == ["tencrop"]
    assert composed("eval=multicrop", "test_scale.q=[256,384]", evaluate=True).test_scale.q == [256, 384]
    assert composed(evaluate=True) == replace(fused)
