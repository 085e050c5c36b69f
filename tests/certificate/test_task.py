"""The task in a certificate goes through JSON, and invalid tasks are refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pactl_cli.certificate.task import Brought, Task


@given(st.booleans(), st.none() | st.integers(0, 10**6), st.booleans())
def test_a_task_goes_through_json(is_brought, pool, has_defaults):
    """The JSON in a certificate is enough to read its message."""
    known: dict[str, Any] = {"intrinsic_dim": 0, "calibration_examples": 0, "image_size": None}
    known |= {"model_name": "fc", "base_width": 3, "normalisation": ((0.1, 0.2), (0.3, 0.4))}
    defaults = known if has_defaults else {}
    brought = Brought("own:net", batch_statistics=True) if is_brought else None
    task = Task("npz:/x", 100, 2, brought, calibration_pool=pool, defaults=defaults)
    assert Task.from_dict(json.loads(json.dumps(task.as_dict()))) == task


@pytest.mark.parametrize(
    "change",
    [
        {"channels": "many"},
        {"train_examples": None},
        {"defaults": "x"},
        {"defaults": {"model_name": 3}},
        {"defaults": {"base_width": "x"}},
        {"defaults": {"normalisation": 3}},
        {"defaults": {"intrinsic_dim": "x"}},
        {"defaults": {"intrinsic_dim": 0.0}},
        {"defaults": {"image_size": True}},
        {"defaults": {"calibration_examples": [3]}},
        {"defaults": {"image_size": 1.5}},
        {"brought": {"shape": 1}},
        {"brought": 3},
        {"brought": {"name": "own:net", "width": None}},
        {"brought": {"name": "own:net", "width": None, "batch_statistics": 1}},
        {"brought": {"name": 3, "width": None, "batch_statistics": True}},
        {"brought": {"name": "own:net", "width": "x", "batch_statistics": True}},
        {"brought": {"name": "own:net", "width": None, "batch_statistics": True, "made_by": "os:system"}},
        {"calibration_pool": {}},
    ],
)
def test_what_is_no_task_is_refused(change):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Task.from_dict(Task("mnist", 100, 1).as_dict() | change)
