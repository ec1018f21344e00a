"""Each scenario of `make faults` with few seeds. One place for all: media and undisturbed runs are made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.place import Place
from tests.faults.scenario import opened, scenarios

TRIALS = [(name, seed) for name, scenario in scenarios().items() for seed in range(scenario.quick)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with opened(tmp_path_factory.mktemp("faults")) as found:
        yield found


@pytest.mark.parametrize(("name", "seed"), TRIALS, ids=[f"{name}-{seed}" for name, seed in TRIALS])
def test_promise(name: str, seed: int, place: Place) -> None:
    record = scenarios()[name].run(place, seed)
    if record.skipped:
        pytest.skip(record.skipped)
    assert not record.broken, record.broken
