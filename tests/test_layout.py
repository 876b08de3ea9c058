"""src/vgg's packages import one way, core without torch, no modules in a circle: pyproject.toml has the contracts."""

import subprocess
import sysconfig
from pathlib import Path

from vgg.core.paths import REPOSITORY

SOURCE = REPOSITORY / "src" / "vgg"


def test_the_contracts_of_the_imports_are_kept():
    command = [Path(sysconfig.get_path("scripts")) / "lint-imports", "--no-cache"]
    checked = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    assert "Contracts: 3 kept, 0 broken." in checked.stdout


def test_packages_have_no_code_of_their_own():
    assert not [path for path in SOURCE.rglob("__init__.py") if path.parent != SOURCE and path.read_text()]
