from __future__ import annotations

from collections.abc import Iterator

import pytest

from .stage import KIND, Stage


@pytest.fixture(scope="module")
def stage(bases, tmp_path_factory) -> Iterator[Stage]:
    """A hub with a good adapter on it, which anything else may be shown to."""
    made = Stage(bases(KIND), tmp_path_factory.mktemp("stage"))
    yield made
    made.close()
