"""The rules of the house: how long a file and a function are, what they are called, described, and told.

Each check is a function from sources to complaints, and each has a test that it can complain.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src"

LINES_AT_MOST = 400
VAGUE_NAMES = frozenset({"util", "utils", "helper", "helpers", "common", "misc"})
FUNCTION_LINES_AT_MOST = 40
PARAMETERS_AT_MOST = 6
FEW_PARAMETERS = ("stages", "problem", "sources")
"""The rooms whose functions are told little."""
LINES_THAT_REPEAT = 6


def python_files(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def sources() -> dict[str, str]:
    """The text of every module of the package, by its dotted name."""
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts): path.read_text("utf-8")
        for path in python_files(SOURCE)
    }


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
    complaints = [f"{module}.{name}" for module, source in sources().items() for name in undocumented(source)]
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


# --- Functions -------------------------------------------------------------------------------------------------------


def functions(source: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions of a source, also methods and those inside others."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def long_functions(source: str) -> list[str]:
    """The functions with too many lines, from `def` to the end, docstring included."""
    return [node.name for node in functions(source) if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_AT_MOST]


def told_too_much(source: str) -> list[str]:
    """The functions with too many parameters, of whatever kind; self and cls count too."""
    complaints = []
    for node in functions(source):
        given = node.args
        several = [each for each in (given.vararg, given.kwarg) if each]
        if len([*given.posonlyargs, *given.args, *given.kwonlyargs, *several]) > PARAMETERS_AT_MOST:
            complaints.append(node.name)
    return complaints


def offenders(modules: Mapping[str, str]) -> set[str]:
    """The dotted names of the functions that are too long, or told too much in a room where that matters."""
    found = set()
    for module, source in modules.items():
        few = module.split(".")[1] in FEW_PARAMETERS
        found |= {f"{module}.{name}" for name in long_functions(source) + (told_too_much(source) if few else [])}
    return found


def test_no_function_is_too_long_or_told_too_much():
    assert sorted(offenders(sources())) == []


def test_a_long_function_is_seen():
    enough, too_much = ("    pass\n" * (FUNCTION_LINES_AT_MOST + more - 1) for more in (0, 1))
    assert long_functions(f"def enough():\n{enough}") == []
    assert long_functions(f"@decorated\ndef enough():\n{enough}") == []
    assert long_functions(f"async def long():\n{too_much}") == ["long"]
    assert long_functions(f"class A:\n def long(self):\n{too_much}") == ["long"]
    assert long_functions(f"def outer():\n def long():\n{too_much}") == ["outer", "long"]


@pytest.mark.parametrize("more", ["g", "*g", "*, g", "**g", "g=1"])
def test_a_function_that_is_told_too_much_is_seen(more):
    assert told_too_much("def enough(a, b, /, c, d, *, e, f): ...") == []
    assert told_too_much(f"def much(a, b, c, d, e, f, {more}): ...") == ["much"]
    source = f"class A:\n    def much(self, b, c, d, e, f, {more}): ..."
    assert offenders({"pactl_cli.stages.bound": source}) == {"pactl_cli.stages.bound.much"}
    assert offenders({"pactl_cli.commands.page.plot": source}) == set()


# --- Repetition ------------------------------------------------------------------------------------------------------


def code_lines(source: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, without spaces: no comments, imports, docstrings, nor brackets alone."""
    silent: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import() | ast.ImportFrom() | ast.Expr(value=ast.Constant(value=str())):
                silent.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for number, line in enumerate(source.splitlines(), start=1):
        said = "".join(line.split())
        if number not in silent and said.strip("()[]{},:") and not said.startswith("#"):
            yield number, said


def repeated(modules: Mapping[str, str]) -> list[str]:
    """The blocks of lines that stand twice, as `module:line = module:line`."""
    complaints: list[str] = []
    seen: dict[tuple[str, ...], str] = {}
    for module, source in modules.items():
        lines = list(code_lines(source))
        for start in range(len(lines) - LINES_THAT_REPEAT + 1):
            block = tuple(said for _, said in lines[start : start + LINES_THAT_REPEAT])
            place = f"{module}:{lines[start][0]}"
            if block in seen:
                complaints.append(f"{seen[block]} = {place}")
            seen.setdefault(block, place)
    return complaints


def test_no_block_stands_twice():
    complaints = repeated(sources())
    assert not complaints, "\n".join(complaints)


def test_a_block_that_stands_twice_is_seen():
    block = [f"value_{number} = make({number})" for number in range(LINES_THAT_REPEAT)]
    text = "\n".join(block)
    other = "import a\n\n\ndef other():\n    " + "\n\n    # why\n    ".join(block).replace("(", "( ")
    assert repeated({"one": text, "two": other}) == ["one:1 = two:5"]
    assert repeated({"one": f"{text}\nend = 1\n{text}"}) == ["one:1 = one:8"]
    assert repeated({"one": "\n".join(block[1:]), "two": other}) == []
    assert repeated({"one": text, "two": text.replace("make(3)", "make(4)")}) == []


def test_imports_docstrings_and_brackets_may_repeat():
    imported = "from a import (\n    b,\n    c,\n)\nimport d\nimport e\nimport f\n"
    described = 'def g():\n    """Say.\n\n    More.\n    And more.\n    And more.\n    """\n    h(\n        1\n    )\n'
    same = imported + described
    assert repeated({"one": same, "two": same}) == []
