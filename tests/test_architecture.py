"""The rules of the house: who may import whom, no circles, and a start without torch. More stand in test_shape.py.

Each check is a function from sources to complaints, and each has a test that it can complain.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src"
PACKAGE = "pactl_cli"

# Data flows one way: a folder imports from itself, from those before it, and from the foundation.
FOLDERS = (
    *("certificate", "models", "subspace", "data", "runs", "processes"),
    *("training", "problem", "sources", "stages", "api", "commands"),
)
FOUNDATION = frozenset({"errors", "randomness", "catalogue"})
MAY_IMPORT = {
    "__init__": {"errors", "api"},  # as types, and by name when they are used
    "__main__": FOUNDATION | set(FOLDERS),
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    **{folder: FOUNDATION | set(FOLDERS[: place + 1]) for place, folder in enumerate(FOLDERS)},
    "commands": FOUNDATION | set(FOLDERS) - {"api"},  # two faces, and neither needs the other
}

LEARNING = frozenset({"torch", "torchvision", "sklearn"})
HEAVY = LEARNING | {"scipy"}
MAY_NEVER_IMPORT = {
    "__init__": HEAVY,
    "errors": HEAVY,
    "catalogue": HEAVY,
    "randomness": LEARNING,
    "certificate": LEARNING,
}


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name of a file under src; a package's ends in `.__init__`, so that its parent is itself."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


# --- Who may import whom ---------------------------------------------------------------------------------------------


def imports(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Every import in a source as (line, absolute name), also those in functions and under TYPE_CHECKING."""
    package = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=target, names=names, level=level):
                origin = resolve_name("." * level + (target or ""), package)
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(target)), *_],
            ):
                yield node.lineno, resolve_name(target, package)


def unlawful_imports(source: str, module: str) -> list[str]:
    """What a module of the package imports though the design forbids it, one complaint each."""
    part = module.split(".")[1]
    if part not in MAY_IMPORT:
        return [f"{module}: `{part}` has no place in the design"]
    complaints = []
    for line, name in imports(source, module):
        root, *rest = name.split(".")
        if root in MAY_NEVER_IMPORT.get(part, ()):
            complaints.append(f"{module}:{line}: imports {name}, which `{part}` may never load")
        elif root == PACKAGE and rest and rest[0] not in MAY_IMPORT[part] | {"__version__"}:
            complaints.append(f"{module}:{line}: imports {name}, which does not lie before `{part}`")
    return complaints


def test_a_module_imports_only_from_what_lies_before_it():
    files = python_files(SOURCE / PACKAGE)
    assert files
    complaints = [each for path in files for each in unlawful_imports(path.read_text("utf-8"), module_name(path))]
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pactl_cli.data.splits", "import pactl_cli.stages.train"),
        ("pactl_cli.data.splits", "from pactl_cli.stages import train"),
        ("pactl_cli.data.splits", "from pactl_cli import stages"),
        ("pactl_cli.data.splits", "from pactl_cli import *"),
        ("pactl_cli.data.splits", "from ..stages import train"),
        ("pactl_cli.data.splits", "from .. import stages"),
        ("pactl_cli.data.__init__", "from ..runs.settings import Settings"),
        ("pactl_cli.data.splits", "def lazily():\n    from pactl_cli.stages.train import train"),
        ("pactl_cli.data.splits", "if TYPE_CHECKING:\n    from pactl_cli.stages.train import train"),
        ("pactl_cli.data.splits", "import importlib\nimportlib.import_module('pactl_cli.stages')"),
        ("pactl_cli.data.splits", "importlib.import_module('..stages', __package__)"),
        ("pactl_cli.data.splits", "__import__('pactl_cli.stages')"),
        ("pactl_cli.errors", "from pactl_cli.certificate import codes"),
        ("pactl_cli.commands.app", "from pactl_cli.api import training"),
        ("pactl_cli.api.training", "from pactl_cli.commands import terminal"),
        ("pactl_cli.catalogue", "from .models import networks"),
        ("pactl_cli.catalogue", "def lazily():\n    import torch"),
        ("pactl_cli.__init__", "from .certificate import codes"),
        ("pactl_cli.certificate.codes", "import torch.nn"),
        ("pactl_cli.certificate.codes", "def lazily():\n    from sklearn.cluster import KMeans"),
        ("pactl_cli.certificate.codes", "from pactl_cli.models import networks"),
        ("pactl_cli.shed.hammer", ""),
        ("pactl_cli.shed", ""),
    ],
)
def test_an_unlawful_import_is_seen(module, source):
    assert len(unlawful_imports(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pactl_cli.data.splits", "import torch\nimport sklearn.datasets\nfrom pactl_cli.data import tensors"),
        ("pactl_cli.data.splits", "from pactl_cli.certificate.codes import decode\nfrom . import tensors"),
        ("pactl_cli.data.__init__", "from .splits import split\nfrom ..errors import PactlError"),
        ("pactl_cli.certificate.codes", "import numpy\nfrom scipy import special\nfrom pactl_cli import __version__"),
        ("pactl_cli.catalogue", "from pactl_cli.errors import PactlError"),
        ("pactl_cli.commands.app", "import pactl_cli\nfrom pactl_cli.stages import train"),
        ("pactl_cli.__main__", "from pactl_cli.commands.app import app"),
    ],
)
def test_a_lawful_import_passes(module, source):
    assert unlawful_imports(source, module) == []


def test_the_guide_for_contributors_names_the_folders_in_order():
    assert f"\n{' -> '.join(FOLDERS)}\n" in (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")


# --- Circles ---------------------------------------------------------------------------------------------------------


def circle(sources: Mapping[str, str]) -> list[str]:
    """The modules of a circle of imports, first and last the same; none if there is no circle.

    Args:
        sources: of each module, by the name that `module_name` gives it.
    """
    modules = {name.removesuffix(".__init__") for name in sources}

    def loaded_for(name: str) -> str:
        """The module that an imported name is, or is a part of; empty if it is none of these."""
        if name == f"{PACKAGE}.__version__":  # which is there before anything else is imported
            return ""
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    needs = {
        module.removesuffix(".__init__"): {loaded_for(name) for _, name in imports(source, module)} - {""}
        for module, source in sources.items()
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return [str(module) for module in reversed(error.args[1])]
    return []


def test_imports_form_no_circle_also_inside_a_room():
    found = circle({module_name(path): path.read_text("utf-8") for path in python_files(SOURCE / PACKAGE)})
    assert not found, " imports ".join(found)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from pactl_cli.room import second", "from pactl_cli.room.first import thing"),
        ("from .second import thing", "def lazily():\n    from . import first"),
        ("import pactl_cli.room.second", "if TYPE_CHECKING:\n    from pactl_cli.room.first import Thing"),
        ("from pactl_cli.room import second", "from pactl_cli.room import exported"),
        ("from pactl_cli.room.first import thing", ""),
    ],
)
def test_a_circle_is_seen(first, second):
    room = {"pactl_cli.room.__init__": "from .first import exported", "pactl_cli.other": "import pactl_cli.room.first"}
    found = circle({**room, "pactl_cli.room.first": first, "pactl_cli.room.second": second})
    assert found
    assert found[0] == found[-1]
    assert "pactl_cli.other" not in found


def test_what_leads_nowhere_twice_is_no_circle():
    sources = {"a.__init__": "", "a.top": "from a import left, right", "a.left": "import torch\nfrom a.low import x"}
    assert circle({**sources, "a.right": "from a.low import y", "a.low": "from a import __version__"}) == []


# --- A start without torch -------------------------------------------------------------------------------------------

RUN_MAIN = """
sys.argv = ["pactl", *sys.argv[1:]]
from pactl_cli.__main__ import main
try:
    status = main()
except SystemExit as stop:
    status = stop.code
"""
IMPORT_NAMES = """
import pactl_cli as pactl
status = 0 if {"train", "bound"} <= {*dir(pactl)} and callable(pactl.PactlError) else "names are missing"
"""
IMPORT_CERTIFICATE = """
import importlib, pkgutil, pactl_cli.certificate as folder
status = [importlib.import_module(f"{folder.__name__}.{each.name}") for each in pkgutil.iter_modules(folder.__path__)]
status = 0 if status else "the folder is empty"
"""


def loaded(code: str, *arguments: str, **environment: str) -> tuple[str, set[str]]:
    """Run code that sets `status` in a fresh process; return what it printed, and the packages it has loaded."""
    report = "\nprint(json.dumps([status or 0, sorted(sys.modules)]))"
    process = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{code}{report}", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )
    assert process.returncode == 0, process.stderr
    *printed, last = process.stdout.splitlines()
    status, modules = json.loads(last)
    assert status == 0, process.stderr
    return "\n".join(printed), {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "--version",
        "train --help",
        "bound --help",
        "verify --help",
        "info --help",
        "launch --help",
        "names",
        "names data --json",
    ],
)
def test_help_and_version_load_nothing_heavy(arguments):
    printed, packages = loaded(RUN_MAIN, *arguments.split())
    assert printed.strip()
    assert packages & HEAVY == set()


def test_completion_loads_nothing_heavy():
    words = {"_PACTL_COMPLETE": "complete_bash", "COMP_WORDS": "pactl tra", "COMP_CWORD": "1"}
    printed, packages = loaded(RUN_MAIN, **words)
    assert "train" in printed.split()
    assert packages & HEAVY == set()


def test_the_interface_loads_nothing_heavy_before_it_is_used():
    _, packages = loaded(IMPORT_NAMES)
    assert packages & {*HEAVY, "pydantic", "numpy", "typer", "rich", "yaml"} == set()


def test_the_use_of_the_interface_is_seen():
    _, packages = loaded("import pactl_cli\nstatus = 0 if pactl_cli.train else 1")
    assert packages >= {"torch", "pydantic", "numpy"}


def test_the_certificate_loads_no_learning_library():
    _, packages = loaded(IMPORT_CERTIFICATE)
    assert packages & LEARNING == set()


def test_a_heavy_import_is_seen(tmp_path):
    for name in HEAVY:  # stand-ins, because the real ones take seconds
        (tmp_path / f"{name}.py").touch()
    _, packages = loaded(f"import {', '.join(HEAVY)}\n{RUN_MAIN}", "--help", PYTHONPATH=str(tmp_path))
    assert packages & HEAVY == HEAVY
