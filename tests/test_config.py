import ast
from dataclasses import fields, is_dataclass

import pytest
from omegaconf import OmegaConf

from vgg import config, nets
from vgg.config import REPOSITORY
from vgg.network import TABLE_1

SCHEMAS = [value for value in vars(config).values() if is_dataclass(value)]


def attributes_read() -> set[str]:
    """Every attribute name that the package's code reads."""
    read = set()
    for path in [*(REPOSITORY / "src" / "vgg").glob("*.py"), REPOSITORY / "train.py", REPOSITORY / "evaluate.py"]:
        tree = ast.parse(path.read_text())
        if path.name == "config.py":  # a key that is only checked is not used: leave the checks out
            tree.body = [node for node in tree.body if not isinstance(node, ast.ClassDef) or "Config" in node.name]
            checks = [node for cls in tree.body if isinstance(cls, ast.ClassDef) for node in cls.body]
            tree.body = [node for node in checks if getattr(node, "name", "") != "__post_init__"]
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return read


def test_every_configuration_key_is_read_by_code():
    read = attributes_read()
    unread = [
        f"{schema.__name__}.{field.name}" for schema in SCHEMAS for field in fields(schema) if field.name not in read
    ]
    assert not unread


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
    assert tuple(TABLE_1) == nets.OF_TABLE_1
    assert {path.stem for path in (REPOSITORY / "conf" / "model").glob("*.yaml")} == set(nets.MODELS)
