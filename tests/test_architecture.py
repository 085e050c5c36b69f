"""The rules of the house: who may import whom, how long a file is, what it is called, and a start without torch.

Each check is a function from sources to complaints, and each has a test that it can complain.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src"
PACKAGE = "pactl_cli"

# Data flows one way: a folder imports from itself, from those before it, and from the foundation.
FOLDERS = (
    *("certificate", "models", "subspace", "data", "runs", "processes"),
    *("training", "problem", "sources", "stages", "commands"),
)
FOUNDATION = frozenset({"errors", "randomness", "catalogue"})
MAY_IMPORT = {
    "__init__": frozenset(),
    "__main__": FOUNDATION | set(FOLDERS),
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    **{folder: FOUNDATION | set(FOLDERS[: place + 1]) for place, folder in enumerate(FOLDERS)},
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

LINES_AT_MOST = 400
VAGUE_NAMES = frozenset({"util", "utils", "helper", "helpers", "common", "misc"})


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


# --- Files and names -------------------------------------------------------------------------------------------------


def overlong(files: Iterable[Path]) -> list[str]:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in files}
    return [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > LINES_AT_MOST]


def vague(files: Iterable[Path], root: Path) -> list[str]:
    """The files of which the own name, or that of a folder below root, says nothing."""
    return [
        str(path)
        for path in files
        if any(part.strip("_") in VAGUE_NAMES for part in path.relative_to(root).with_suffix("").parts)
    ]


def test_no_file_is_too_long():
    complaints = overlong(python_files(SOURCE, REPOSITORY / "tests"))
    assert not complaints, "\n".join(complaints)


def test_no_module_has_a_vague_name():
    complaints = vague(python_files(SOURCE, REPOSITORY / "tests"), REPOSITORY)
    assert not complaints, "\n".join(complaints)


def test_a_long_file_is_seen(tmp_path):
    (tmp_path / "enough.py").write_text("pass\n" * LINES_AT_MOST)
    (tmp_path / "too_much.py").write_text("pass\n" * (LINES_AT_MOST + 1))
    assert overlong(python_files(tmp_path)) == [f"{tmp_path / 'too_much.py'}: {LINES_AT_MOST + 1} lines"]


def test_a_vague_name_is_seen():
    clear, plain, private, folder = map(Path, ("a/codes.py", "a/utils.py", "a/_helpers.py", "a/common/codes.py"))
    assert vague([clear, plain, private, folder], Path("a")) == list(map(str, (plain, private, folder)))


# --- Docstrings ------------------------------------------------------------------------------------------------------


def public_definitions(body: Iterable[ast.AST]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """The public functions and classes of a module, also those under `if` and `try`; methods are their class's."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            overload = any(ast.unparse(each).endswith("overload") for each in node.decorator_list)
            if not node.name.startswith("_") and not overload:
                yield node
        elif isinstance(node, ast.stmt | ast.ExceptHandler):
            yield from public_definitions(ast.iter_child_nodes(node))


def undocumented(source: str) -> list[str]:
    return [node.name for node in public_definitions(ast.parse(source).body) if not ast.get_docstring(node)]


def test_every_public_function_and_class_has_a_docstring():
    complaints = [
        f"{module_name(path)}.{name}" for path in python_files(SOURCE) for name in undocumented(path.read_text("utf-8"))
    ]
    assert not complaints, "\n".join(complaints)


def test_a_missing_docstring_is_seen():
    source = '''
def bare(): pass
async def bare_too(): pass
def empty(): ""
class Bare:
    def method(self): pass
if True:
    def hidden(): pass
def described():
    """Says what it does."""
    def inner(): pass
class Described: "Says what it is."
def _private(): pass
@typing.overload
def stub(): ...
'''
    assert undocumented(source) == ["bare", "bare_too", "empty", "Bare", "hidden"]


# --- A start without torch -------------------------------------------------------------------------------------------

RUN_MAIN = """
sys.argv = ["pactl", *sys.argv[1:]]
from pactl_cli.__main__ import main
try:
    status = main()
except SystemExit as stop:
    status = stop.code
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
    ["--help", "--version", "train --help", "bound --help", "verify --help", "info --help", "launch --help"],
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


def test_the_certificate_loads_no_learning_library():
    _, packages = loaded(IMPORT_CERTIFICATE)
    assert packages & LEARNING == set()


def test_a_heavy_import_is_seen(tmp_path):
    for name in HEAVY:  # stand-ins, because the real ones take seconds
        (tmp_path / f"{name}.py").touch()
    _, packages = loaded(f"import {', '.join(HEAVY)}\n{RUN_MAIN}", "--help", PYTHONPATH=str(tmp_path))
    assert packages & HEAVY == HEAVY
