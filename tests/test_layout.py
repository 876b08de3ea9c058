"""src/vgg's packages import one way, and core without torch."""

import ast
import subprocess
import sys

from vgg.core.paths import REPOSITORY

SOURCE = REPOSITORY / "src" / "vgg"
# A package imports those of the floors below its own; of one floor none imports the other.
FLOORS = (
    ("core",),
    ("nets", "data", "launch"),
    ("runs",),
    ("training", "evaluation"),
    ("appendix", "prediction"),
    ("report",),
    ("commands",),
)
FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}


def test_the_floors_are_all_packages():
    assert set(FLOOR) == {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert not [path for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE and path.read_text()]


def test_packages_import_one_way():
    upwards = []
    for path in sorted(SOURCE.glob("*/**/*.py")):
        package = path.relative_to(SOURCE).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vgg."):
                other = node.module.split(".")[1]
                if other != package and FLOOR[other] >= FLOOR[package]:
                    upwards.append(f"{path.relative_to(SOURCE)} imports {node.module}")
    assert upwards == []


def test_modules_of_a_package_import_in_no_circle():
    imports = {}
    for path in SOURCE.rglob("*.py"):
        name = ".".join(("vgg", *path.relative_to(SOURCE).with_suffix("").parts))
        nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ImportFrom)]
        known = [f"{node.module}.{one.name}" for node in nodes for one in node.names] + [node.module for node in nodes]
        imports[name] = known

    def walk(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"{' → '.join((*above, module))}"
        if module in left:
            left.discard(module)
            for other in imports[module]:
                if other in imports:
                    walk(other, (*above, module))

    left = set(imports)
    for module in imports:
        walk(module, ())


def test_core_needs_no_torch():
    modules = [f"vgg.core.{path.stem}" for path in (SOURCE / "core").glob("*.py") if path.stem != "__init__"]
    code = f"import sys, {', '.join(modules)}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split()[0] == "False"
