"""Patterns on names mean the same as for `re.search`, and take a bounded time for any input."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pactl_cli.certificate.name_patterns import NamePattern
from pactl_cli.errors import PactlError

NAMES = ["", "a", "b.a", "ab1", "aab.b", "a_b-1", "bbaab", "layer1.0.conv1.weight", "head.bias"]
PIECES = [
    "a",
    "b",
    ".",
    "\\.",
    "[ab]",
    "[^a]",
    "[a-c1]",
    "\\d",
    "\\w",
    "(",
    "(?:",
    "(?!",
    "(?=",
    ")",
    "|",
    "*",
    "+",
    "?",
]
ATOMS = st.sampled_from(["a", "b", ".", r"\.", "[ab]", "[^a.]", "[a-c1]", r"\d", r"\w", r"[\d_]"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from("*+?")).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=8,
)


def found(pattern: str, names: list[str]) -> list[str]:
    return NamePattern(pattern).found_in(names)


@settings(max_examples=300, deadline=None)
@given(
    PATTERNS,
    st.sampled_from(["", "^", "(?!a)", "^(?!b|aa)", "(?=.b)"]),
    st.sampled_from(["", "$"]),
    st.lists(st.text("ab1._", max_size=8), max_size=5),
)
def test_it_finds_what_re_finds(pattern: str, before: str, after: str, names: list[str]) -> None:
    text = before + pattern + after
    if len(text) > 200:
        return
    assert found(text, NAMES + names) == [name for name in NAMES + names if re.search(text, name)]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, "^", "$", "x"]), max_size=9).map("".join))
def test_what_it_takes_re_takes_and_finds_the_same(text: str) -> None:
    try:
        pattern = NamePattern(text)
    except PactlError:
        return
    assert pattern.found_in(NAMES) == [name for name in NAMES if re.search(text, name)]


@pytest.mark.parametrize(
    "text", ["^(?!fc\\.)", "^(conv1|layer[12]\\.)", "bias$", "layer\\d+.*weight", "[-.]", "[\\w-]"]
)
def test_ordinary_patterns_are_taken(text: str) -> None:
    assert found(text, NAMES) == [name for name in NAMES if re.search(text, name)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("[a", "ends too early"),
        ("[]", "no meaning"),
        ("[b-a]", "not a range"),
        ("*a", "no meaning"),
        ("a**", "no meaning"),
        ("^*", "cannot be repeated"),
        ("a{2}", "no meaning"),
        ("\\", "no meaning"),
        ("\\bfc", "no meaning"),
        ("(a)\\1", "no meaning"),
        ("(?P<x>a)", "no meaning"),
        ("(?<=a)b", "no meaning"),
        ("(?!a(?!b))", "inside another"),
        ("é" * 101, "202 bytes"),
        ("\ud800", "not valid Unicode"),
    ],
)
def test_what_is_no_pattern_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(PactlError, match=complaint):
        NamePattern(text)


LONG = [f"layer{number}.{'a' * 60}.weight" for number in range(300)]


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(PactlError, match="too many steps"):
        found("(?!.*.*!)" * 20 + "!", LONG)


@pytest.mark.parametrize(
    "text",
    [
        *("(a+)+$x", "(a|a)*" * 30 + "$x", "(.|.)" * 38 + "x", "(((.)*)*)*x" * 10, ".*" * 90 + "!"),
        *("(?!.*.*!)" * 20 + "!", "(" * 66 + ")*" * 66, "(" * 66 + ")+" * 66),
    ],
)
def test_a_strangers_pattern_takes_no_more_than_seconds(text: str) -> None:
    """Several of these would take `re` longer than the age of the universe."""
    started = time.process_time()
    with suppress(PactlError):
        assert found(text, LONG) == []
    assert time.process_time() - started < 10
