"""Two processes on the CPU: accelerate's DDP, and FSDP2, give what the bare loop gives in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from peftref.modules.restore import restore
from tests.integrations.common import Trained, host, pairs, reference, values
from tests.integrations.pair import WAYS, Case, train

torch.set_num_threads(1)
pytestmark = pytest.mark.xdist_group("processes")  # the processes are started once
CASES: list[Case] = [(way, *pair) for i, way in enumerate(WAYS) for pair in pairs(i + 2)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the two processes write."""
    found: Path = tmp_path_factory.mktemp("pair")
    return found


@pytest.fixture(scope="module")
def trained(place: Path) -> dict[Case, Trained | str]:
    """What every case gave, trained in the same two processes."""
    return train(CASES, place)


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_two_processes_train_as_one(case: Case, trained: dict[Case, Trained | str], place: Path) -> None:
    found = trained[case]
    assert isinstance(found, Trained), found
    way, technique, family = case
    reference(technique, family).near(found)
    if way == "FSDP2":  # what two processes saved together stands on a host of one
        alone = restore(host(family), place / f"{technique}-{family}")
        assert all(torch.equal(value, found.values[name]) for name, value in values(alone).items())
