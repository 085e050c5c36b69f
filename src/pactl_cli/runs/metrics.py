"""The lines of `metrics.jsonl`; a kill may have cut one short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any


def whole_lines(data: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yield the whole lines, each with its record."""
    for line in data.splitlines(keepends=True):
        with suppress(ValueError, RecursionError):
            if line.endswith(b"\n") and isinstance(record := json.loads(line), dict):
                yield line, record
