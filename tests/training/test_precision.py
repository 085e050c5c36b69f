"""Counting uses exact single precision, and the settings are restored afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Thread

import pytest
import torch

from pactl_cli.training import precision
from pactl_cli.training.precision import full_precision, tf32

PLACES = precision._ON_A_GPU + precision._ON_A_PROCESSOR


def flags() -> list[str]:
    return [place.fp32_precision for place in PLACES]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = flags()
    yield
    for place, flag in zip(PLACES, before, strict=True):
        place.fp32_precision = flag


def by_the_earlier_names() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


def by_a_word_for_all() -> None:
    torch.set_float32_matmul_precision("medium")


def by_the_later_names() -> None:
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", [by_the_earlier_names, by_a_word_for_all, by_the_later_names])
def test_whatever_a_caller_has_set_is_set_again(how: Callable[[], None]) -> None:
    word = torch.get_float32_matmul_precision()
    try:
        how()
        before = flags()
        with full_precision():
            assert set(flags()) == {"ieee"}
        assert flags() == before
    finally:
        torch.set_float32_matmul_precision(word)


def test_within_training_that_allows_it_a_count_does_not() -> None:
    before = flags()
    with tf32(True):
        allowed = flags()
        assert set(allowed[:3]) == {"tf32"}
        assert allowed[3:] == before[3:]
        with full_precision():
            assert set(flags()) == {"ieee"}
        assert flags() == allowed
    assert flags() == before


def test_the_work_of_two_threads_may_end_in_any_order() -> None:
    before = flags()
    first, second = ExitStack(), ExitStack()
    first.enter_context(tf32(False))
    thread = Thread(target=second.enter_context, args=(tf32(True),))
    thread.start()
    thread.join()
    assert set(flags()) == {"ieee"}
    first.close()
    assert set(flags()[:3]) == {"tf32"}
    second.close()
    assert flags() == before


def test_a_callers_autocast_is_left_aside() -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision():
            assert (x @ x).dtype == torch.float32
