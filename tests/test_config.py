import ast
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from conftest import composed
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from vgg.core import catalogue
from vgg.core.compose import flat, typed
from vgg.core.config import EvaluateConfig, TrainConfig, keys
from vgg.core.errors import UserError
from vgg.core.paths import REPOSITORY
from vgg.nets.vgg import TABLE_1


def attributes_read() -> set[str]:
    """Every attribute name that the package's code reads."""
    read = set()
    for path in [*(REPOSITORY / "src" / "vgg").rglob("*.py"), REPOSITORY / "train.py", REPOSITORY / "evaluate.py"]:
        tree = ast.parse(path.read_text())
        if path.name == "config.py":  # a key that is only checked is not used: leave the checks out
            tree.body = [node for node in tree.body if not isinstance(node, ast.ClassDef) or "Config" in node.name]
            checks = [node for cls in tree.body if isinstance(cls, ast.ClassDef) for node in cls.body]
            tree.body = [node for node in checks if getattr(node, "name", "") != "__post_init__"]
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return read


def test_every_key_is_read_by_code_and_says_what_it_means():
    read, described = attributes_read(), keys(EvaluateConfig)
    assert len(described) > 100
    assert [key for key in described if key.rpartition(".")[2] not in read] == []
    assert [key for key, text in described.items() if not text] == []


def values_of(script: str, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return compose(script, list(overrides))


@pytest.fixture(scope="module")
def values() -> DictConfig:
    """What Hydra composes for evaluate.py, not yet checked."""
    cfg = values_of("evaluate")
    OmegaConf.set_struct(cfg, False)
    return cfg


def names(cfg: DictConfig) -> set[str]:
    return set(flat(OmegaConf.to_container(cfg)))


@pytest.mark.parametrize(("script", "schema"), [("train", TrainConfig), ("evaluate", EvaluateConfig)])
def test_conf_has_every_key_of_the_schema_and_no_other(script, schema):
    groups = {key.rpartition(".")[0] for key in keys(schema)} - {""}
    assert names(values_of(script, "ablation=depth")) == set(keys(schema)) - groups


def test_options_that_set_keys_of_several_groups_set_keys_of_the_schema():
    paths = [path for path in (REPOSITORY / "conf").glob("*/*.yaml") if "@package _global_" in path.read_text()]
    assert len(paths) > 10
    assert set().union(*(names(OmegaConf.load(path)) for path in paths)) <= set(keys(EvaluateConfig)) | {"defaults"}


def test_a_key_that_is_missing_is_named():
    with pytest.raises(UserError, match=r"^trainer.precision is missing$"):
        composed("~trainer.precision")
    with pytest.raises(UserError, match=r"^weights.path is missing$"):
        composed("weights=caffe")


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("data.lr=inf",), "data.lr=inf: should be a finite number"),
        (("data.lr=nan",), "data.lr=nan: should be a finite number"),
        (("data.lr=0",), "data.lr=0: should be greater than 0"),
        (("plan.images_per_second=inf",), "plan.images_per_second=inf: should be a finite number"),
        (("data.batch=true",), "data.batch=true: should be a valid integer"),
        (("data.batch=1.5",), "data.batch=1.5: should be a valid integer"),
        (("data.epochs=many",), "data.epochs=many: should be a valid integer"),
        (("data.width=4.5",), "data.width=4.5: should be less than or equal to 4"),
        (("data.download=1",), "data.download=1: should be a valid boolean"),
        (("seed=-1",), "seed=-1: should be greater than or equal to 0"),
        (("layers=some",), "layers=some: should be 'all' or 'fc'"),
        (("trainer.devices=0",), "trainer.devices=0: a number of devices, or -1 for all"),
        (("optimizer.schedule=[[0.5,0.1,1]]",), "optimizer.schedule[0]=[0.5, 0.1, 1]: should have at most 2 items"),
        (("optimizer.schedule=[[0.5,x]]",), "optimizer.schedule[0][1]=x: should be a valid number"),
        (("test_scale.q=[256,large]",), "test_scale.q[1]=large: should be a valid integer"),
        (("test_scale.q=[200]",), "test_scale.q[0]=200: should be greater than or equal to 224"),
        (("test_scale.q=[256,256]",), "test_scale.q=[256, 256]: 256 stands there twice"),
        (("box_evaluation.q=[[256],[384,200]]",), "box_evaluation.q[1][1]=200: should be greater than or equal to 224"),
        (("eval_method.views=[dense,dense]",), "eval_method.views=['dense', 'dense']: dense stands there twice"),
        (("eval_method.views=[dens]",), "eval_method.views[0]=dens: should be 'dense', 'multicrop', 'center' or "),
        (("eval_method.views=[]",), "eval_method.views=[]: should have at least 1 item"),
        (("runs=[true]",), "runs[0]=true: should be a valid string"),
        (("runs=[A-256,A-256]",), "runs=['A-256', 'A-256']: A-256 stands there twice"),
        (("transfer.c=[1,-1]",), "transfer.c[1]=-1: should be greater than 0"),
        (("data.epoch=3",), "data.epoch=3: there is no such key, did you mean data.epochs?"),
        (("trainer.max_epochs=1",), "trainer.max_epochs=1: there is no such key, did you mean data.epochs?"),
        (("tag=false",), "tag=false: should be a valid string"),
        (("tag=" + "a" * 300,), f"tag={'a' * 60}…: it has 300 bytes, at most 64 fit in a run's name"),
        (("tag=a/b",), "tag=a/b: a run's name cannot have '/'"),
        (("tag=seed2",), "tag=seed2: in a run's name this says that another key has a value of its own"),
        (("data.name=..",), "data.name=..: a run's name cannot be empty, nor start with '.' or '-'"),
        (("data.name=a/b",), "data.name=a/b: a run's name cannot have '/'"),
        (
            ("data.name=null", "data.root=/"),
            "data.root=/: a run's name cannot be empty, nor start with '.' or '-'; add ",
        ),
        (("train_scale.smin=300", "train_scale.smax=299"), "train_scale.smin=300 is larger than train_scale.smax=299"),
    ],
)
def test_a_mistake_is_one_line_with_the_key_the_value_and_the_bound(overrides, line, values):
    changed = values.copy()
    for override in OverridesParser.create().parse_overrides(overrides):
        OmegaConf.update(changed, override.key_or_group, override.value(), force_add=True)
    with pytest.raises(UserError) as error:
        typed(changed, EvaluateConfig)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(line)


def test_every_mistake_has_its_line():
    with pytest.raises(UserError) as error:
        composed("data.lr=nan", "trainer.workers=-1", "train_scale.smin=600")
    assert [line.partition("=")[0] for line in str(error.value).splitlines()] == [
        "train_scale.smin",
        "data.lr",
        "trainer.workers",
    ]


def test_a_folder_in_a_files_place_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "below"):
        with pytest.raises(UserError, match=rf"^dirs.cache=.*: {file} is a file, this needs a folder$"):
            composed(f"dirs.cache={path}")


def test_values_are_checked_again_where_some_are_replaced():
    cfg = composed("data.width=0.5")
    with pytest.raises(UserError, match=r"^lr=-1: should be greater than 0$"):
        replace(cfg.data, lr=-1)
    with pytest.raises(UserError, match=r"^data.width=0.5: lenet5 has one width, data.width=1$"):
        replace(cfg, model=replace(cfg.model, name="lenet5"))
    assert replace(cfg, data=replace(cfg.data)) == cfg
    assert TrainConfig(**asdict(cfg)) == cfg


def test_a_tag_is_free_text_that_file_names_can_hold():
    assert composed("tag=my wide net").tag == "my_wide_net"
    assert composed("tag='ü halb'").tag == "ü_halb"
    assert composed("tag=2024").tag == "2024"


def test_reading_a_configuration_needs_no_torch():
    code = "import sys, vgg.core.config; print('torch' in sys.modules, 'hydra' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False False\n"


@pytest.mark.parametrize("path", sorted((REPOSITORY / "conf").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_option_file_states_its_purpose_in_its_first_line(path):
    if path.parent.name != "model":
        assert path.read_text().startswith("# ")


@pytest.mark.parametrize("group", ["data", "trainer", "logger", "train_scale", "test_scale", "eval_method"])
def test_options_of_a_group_have_the_same_keys(group):
    options = [OmegaConf.load(path) for path in sorted((REPOSITORY / "conf" / group).glob("*.yaml"))]
    full = [set(option) - {"defaults"} for option in options if "defaults" not in option]
    assert all(keys == full[0] for keys in full)


def test_the_models_of_the_schema_are_those_of_table_1_and_the_options():
    assert tuple(TABLE_1) == catalogue.OF_TABLE_1
    assert {path.stem for path in (REPOSITORY / "conf" / "model").glob("*.yaml")} == set(catalogue.MODELS)


def test_the_base_of_the_data_options_is_none_of_them():
    with pytest.raises(UserError, match="data=base has what the other data options share"):
        composed("data=base")
