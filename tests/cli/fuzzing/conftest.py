"""What fuzzing needs: values that nobody expects, bytes that nobody wrote, and a program under watch.

`PACTL_FUZZ_CASES` is the number of cases in all, 300 by default. Ten thousand take a quarter of an hour:

    PACTL_FUZZ_CASES=10000 pytest tests/cli/fuzzing
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from pactl_cli.commands.app import main

CASES = int(os.environ.get("PACTL_FUZZ_CASES", "300"))
MOST_SECONDS = 10
MOST_BYTES = 200 << 20
ADDRESS_SPACE = 8 << 30
FORBIDDEN = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "pickle.find_class",
}
"""What no case may lead to, as Python's audit calls it."""

_audit = SimpleNamespace(on=False, seen=[])
_tried: Counter[str] = Counter()


# --- How many -------------------------------------------------------------------------------------------------


def _cases(share: float) -> settings:
    """Hypothesis's settings for a share of all cases."""
    return settings(
        max_examples=max(3, round(share * CASES)),
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=set(Phase) - {Phase.explain},
    )


# --- Values ---------------------------------------------------------------------------------------------------


LITERALS = (
    *("1e400", "-1e400", "NaN", "-Infinity", "1" + "0" * 400, "9" * 5000, "-0", "-0.0", "5e-324", "1E+2", "01"),
    *("[" * 200 + "]" * 200, "[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, "{}", "[]", '"\\ud800"', '"\\u0000"'),
)
"""JSON, or what looks like it, that no serialiser writes."""

TAGGED = (
    *(".nan", "-.inf", ".inf", "1:30", "0x" + "f" * 5000, "0b1", "~", "yes", "2001-01-01", "2001-01-01 00:00:00", "="),
    *("!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]", "!!python/object/apply:os.system [true]", "&a [*a]", "<<: {}"),
    *("!!python/name:os.system", "!unknown x", "!!timestamp 2001-99-99", "!!int x", "!!float x", '"\\uD800"', "? {}"),
)
"""YAML of every other kind."""

# fmt: off
POOL: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 5, 16, 17, 20, 21, 64, 255, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64),
    *(10**400, -(2**63), 0.0, -0.0, 0.05, 0.5, 1.0, 1e-308, 5e-324, 1e308, -1.5, 1e17, float("nan"), float("inf")),
    *(-float("inf"), "", " ", "x", "x" * 5000, "a\nb", "\x00", "\x1b[31m", "\u202e", "\ud800", "\udcff", "/", "."),
    *("..", "-", "~", "auto", "../../etc/passwd", "/etc/passwd", "/dev/zero", "os:getpid", "canary:build", "1", "nan"),
    *("npz:", "npz:/dev/zero", "folder:/", "digits", "mnist", "fc", "layer13s", "dense", "sparse", "rdkronqr", "cpu"),
    *("running", "complete", "train", "prior", "transfer", "bound", "fixed", "published", "source", "0" * 64, "bf16"),
    *("x_train", "torchvision:resnet18", "message.bin", "manifest.json", "resume/state.safetensors", "kmeans", "3,5"),
    *("drop", "keep", "refuse", "imagenet", "torchvision 9.9", "pactl 0", "npz:run/indices.npz", "this:d", "f" * 64),
    *([], {}, [[]], [None], {"": None}, {"a": {"a": {}}}, [0] * 2000, {str(key): key for key in range(300)}),
)
# fmt: on

_values = st.one_of(
    st.sampled_from(POOL),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.recursive(
        st.sampled_from(POOL[:30]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    ),
)
values = _values.map(deepcopy)


# --- Documents ------------------------------------------------------------------------------------------------


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    if not isinstance(document, dict | list):
        return []
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    return [place for key in keys for place in [(document, key), *_places(document[key])]]


def _near(value: Any) -> st.SearchStrategy[Any]:
    """Values that could be meant instead."""
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, int):
        return st.integers(-3, 3).map(lambda step: value + step) | st.just(float(value))
    if isinstance(value, float):
        return st.sampled_from([value / 2, value * (1 + 1e-7), -value, 1 - value, round(value)])
    if isinstance(value, str) and value:
        return st.integers(0, len(value) - 1).map(lambda at: value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :])
    return values


@st.composite
def changed(draw: Any, document: Any, literals: tuple[str, ...] = LITERALS, most: int = 2) -> dict[str, str]:
    """Changes a JSON value where it stands; gives the literals that are to stand for marks in it.

    A mark is a string. One that is a key is a key that occurs twice.
    """
    marks: dict[str, str] = {}
    for _ in range(draw(st.integers(1, most))):
        places = _places(document)
        if not 0 < len(places) < 5000:  # one that grew twice would not fit into memory
            break
        container, key = draw(st.sampled_from(places))
        action = draw(
            st.sampled_from(["replace", "replace", "near", "near", "literal", "remove", "add", "twice", "grow"])
        )
        mark = f"@{len(marks)}@"
        if action == "replace":
            container[key] = draw(values)
        elif action == "near":
            container[key] = draw(_near(container[key]))
        elif action == "literal":
            container[key] = mark
            marks[mark] = draw(st.sampled_from(literals))
        elif action == "remove":
            del container[key]
        elif isinstance(container, list):
            container += draw(st.lists(values, max_size=2)) if action == "add" else container * draw(st.integers(1, 50))
        elif action == "add":
            container[draw(st.text(max_size=5))] = draw(values)
        elif action == "twice":
            container[mark] = draw(values)
            marks[mark] = '"' + str(key).replace('"', "") + '"'
        else:
            container[key] = [container[key]] * draw(st.sampled_from([1, 2, 5000]))
    return marks


def marked(text: str, marks: dict[str, str]) -> bytes:
    """A document's text with the literals in place, in bytes."""
    for mark, literal in marks.items():
        for quote in "\"'":
            text = text.replace(f"{quote}{mark}{quote}", literal)
    return text.encode("utf-8", "surrogatepass")


# --- Bytes ----------------------------------------------------------------------------------------------------


@st.composite
def spoilt(draw: Any, data: bytes) -> bytes:
    """Bytes, changed in one place or a few."""
    for _ in range(draw(st.integers(1, 3))):
        at, length = (draw(st.integers(0, most)) for most in (max(0, len(data) - 1), 40))
        action = draw(st.sampled_from(["flip", "flip", "set", "truncate", "insert", "delete", "repeat", "all"]))
        if action == "flip":
            data = data[:at] + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[at : at + 1]) + data[at + 1 :]
        elif action == "set":
            piece = draw(st.sampled_from([b"\xff", b"\0", b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7, b"9" * 12]))
            data = data[:at] + piece + data[at + len(piece) :]
        elif action == "truncate":
            data = data[:at]
        elif action == "insert":
            data = data[:at] + draw(st.binary(max_size=40)) + data[at:]
        elif action == "delete":
            data = data[:at] + data[at + length :]
        elif action == "repeat":
            data = data[:at] + data[at : at + length] * draw(st.sampled_from([2, 100])) + data[at:]
        else:
            data = draw(st.binary(max_size=60) | st.sampled_from([b"", b"\x80\x04N.", b"PK\x05\x06" + bytes(18)]))
    return data


# --- The program under watch ----------------------------------------------------------------------------------


class TooLongError(BaseException):
    """A case takes too long. Nothing in the program catches it."""


def _too_long(*_: object) -> None:
    raise TooLongError


def _resident_bytes(name: str) -> int:
    """Of this process: `VmRSS` now, or `VmHWM` at most so far."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


@contextmanager
def watched(seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Fails if what happens takes long, takes much memory, starts anything or loads code that a file names."""
    can_measure = sys.platform == "linux"
    if can_measure:
        ctypes.CDLL(None).malloc_trim(0)  # what is kept for later would hide what is taken now
        Path("/proc/self/clear_refs").write_text("5")
    before = _resident_bytes("VmRSS") if can_measure else 0
    _audit.seen.clear()
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    stderr = sys.__stderr__ or 2
    faulthandler.dump_traceback_later(6 * MOST_SECONDS, exit=True, file=stderr)  # where no signal gets through
    _audit.on = True
    try:
        yield
    finally:
        _audit.on = False
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert not _audit.seen, "nothing is started, nothing is unpickled, nobody is called"
    assert not {"canary", "antigravity"} & set(sys.modules), "no code is loaded because a file names it"
    if can_measure:
        assert _resident_bytes("VmHWM") - before < MOST_BYTES, "memory is not what a file says it should be"


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if _audit.on and event in FORBIDDEN:
        _audit.seen.append((event, repr(arguments)[:200]))


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def require_clear(self) -> None:
        """Either it did what it should, or one line says why not."""
        if self.code == 0:
            assert all(line.startswith("pactl: note: ") for line in self.err.splitlines()), self
            assert all(line.isprintable() and len(line) < 1500 for line in self.err.splitlines()), self
            return
        assert self.code in (1, 2), self
        assert self.out == "", self
        assert self.err.startswith("pactl: "), self
        assert self.err.endswith("\n"), self
        assert self.err.count("\n") == 1, self
        assert self.err.isprintable() or self.err[:-1].isprintable(), self
        assert len(self.err) < 1500, self
        assert "out of memory" not in self.err, self


def _call(*arguments: object) -> Outcome:
    """Calls the program in this process, watched; its answer must be clear."""
    out, err = (TextIOWrapper(BytesIO(), "utf-8") for _ in range(2))
    before, sys.argv = sys.argv, ["pactl", *map(str, arguments)]
    code = 0
    try:
        with redirect_stdout(out), redirect_stderr(err), watched():
            main()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    finally:
        sys.argv = before
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))
    outcome = Outcome(code, *texts)
    outcome.require_clear()
    return outcome


@pytest.fixture(scope="session", autouse=True)
def _limits() -> Iterator[None]:
    """An address space that no file may exhaust, and an ear for what Python does."""
    sys.addaudithook(_heard)
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="session")
def fuzz() -> Any:
    """Everything of this file that the tests draw from and call."""
    return SimpleNamespace(
        call=_call,
        watched=watched,
        TooLongError=TooLongError,
        values=values,
        changed=changed,
        marked=marked,
        spoilt=spoilt,
        tagged=TAGGED,
    )


@pytest.fixture
def search(request: pytest.FixtureRequest) -> Callable[[float, Callable[[Any], None]], None]:
    """`search(share, case)`: calls `case(draw)` for a share of all cases."""
    from hypothesis import given

    def run(share: float, case: Callable[[Any], None]) -> None:
        @_cases(share)
        @given(st.data())
        def each(data: Any) -> None:
            _tried[request.node.name] += 1
            case(data.draw)

        each()

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many cases there were, where somebody wanted a number of them."""
    if "PACTL_FUZZ_CASES" in os.environ:
        for name, count in _tried.items():
            terminalreporter.line(f"{count:7,} {name}")
        terminalreporter.line(f"{_tried.total():7,} cases")
