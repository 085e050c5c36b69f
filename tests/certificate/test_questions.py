"""Questions: how they are parsed, how they share delta, and the price of each event."""

from __future__ import annotations

from fractions import Fraction

import mpmath  # type: ignore[import-untyped]
import pytest

from pactl_cli.certificate.questions import ERROR, Question, Wanted, listed, price, rank_of


@pytest.mark.parametrize(
    ("text", "what", "share", "file"),
    [
        ("class", "class", None, None),
        ("top-5", "top-5", None, None),
        ("error@0.5", "error", Fraction(1, 2), None),
        ("abstain@1/3", "abstain", Fraction(1, 3), None),
        ("cost:costs.csv", "cost", None, "costs.csv"),
        ("cost=a@b/c.npy@.25", "cost", Fraction(1, 4), "a@b/c.npy"),
        ("groups /tmp/my groups.npy", "groups", None, "/tmp/my groups.npy"),
    ],
)
def test_words(text: str, what: str, share: Fraction | None, file: str | None) -> None:
    assert Wanted.parse(text) == Wanted(what, share, file)


@pytest.mark.parametrize(
    "text", ["", "top-0", "top-", "top-05", "classes", "class:file", "class@0", "class@1", "class@1/0"]
)
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"choose from|share of class"):
        Wanted.parse(text)


def test_a_list_may_have_commas() -> None:
    assert listed(["class,top-2", "class"]) == ("class", "top-2") == listed("class, top-2")
    assert listed(None) == ()
    for other in (7, True, {"class": 1}):
        with pytest.raises(ValueError, match="must name guarantees"):
            listed(other)  # type: ignore[arg-type]
    assert [rank_of(what) for what in ("top-7", "class")] == [7, None]


def asked(*texts: str, headline: str = ERROR) -> Question:
    return Question.of(map(Wanted.parse, texts), headline)


def test_the_error_is_always_asked_for_and_shares_are_equal() -> None:
    assert asked().shares == {ERROR: 1}
    assert asked().price(ERROR, 1) == 0.0
    assert asked("class", "top-3").shares == dict.fromkeys([ERROR, "class", "top-3"], Fraction(1, 3))
    assert asked("error", "class", headline="top-2").shares == dict.fromkeys([ERROR, "class", "top-2"], Fraction(1, 3))
    assert asked("class@0.1", "top-2").shares == {
        ERROR: Fraction(9, 20),
        "class": Fraction(1, 10),
        "top-2": Fraction(9, 20),
    }


def test_a_headline_may_have_a_share() -> None:
    found = asked("class", headline="top-2@0.5")
    assert found.headline == "top-2"
    assert found.shares == {ERROR: Fraction(1, 4), "class": Fraction(1, 4), "top-2": Fraction(1, 2)}


@pytest.mark.parametrize(
    ("texts", "headline", "reason"),
    [
        (["class@0.6", "top-2@0.6"], ERROR, "more than 1"),
        (["class@0.5", "top-2@0.5"], ERROR, "leave nothing"),
        (["class@0.5", "class@0.4"], ERROR, "two shares"),
        (["calibration"], "calibration", "not a single number"),
        ([], "nothing", "choose from"),
    ],
)
def test_shares_that_are_none(texts: list[str], headline: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        asked(*texts, headline=headline)


def test_prices_are_a_prefix_code_to_the_last_bit() -> None:
    """Kraft's sum with 60 digits shows that rounding made no price too small, and none much too large."""
    mpmath.mp.dps = 60
    for guarantees in range(1, 17):
        for events in (1, 2, 3, 10, 24, 1000, 4096):
            paid = price(Fraction(1, guarantees), events)
            share = mpmath.mpf(events) * mpmath.power(2, -mpmath.mpf(paid))
            assert share <= mpmath.mpf(1) / guarantees
            assert share * guarantees > 1 - mpmath.mpf(10) ** -12
    assert price(Fraction(1, 4), 16) == 6.0
