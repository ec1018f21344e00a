"""Shared fixtures. Times are never asserted on: machines are noisy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from dyconv.infp.portraits import FaceModels

os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
settings.register_profile("dyconv", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dyconv")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real clips (`DYCONV_REAL_DATA`, default ../shared/data); skips where there is none."""
    folder = Path(os.environ.get("DYCONV_REAL_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real media at {folder}: set DYCONV_REAL_DATA")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch with a single thread: small networks are faster so, and give the same numbers on every machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def face_models() -> FaceModels:
    """The pipeline's face models; skips where their weights are not on this machine."""
    from dyconv.infp.portraits import FaceModels
    from dyconv.models import registry

    for name in ("mediapipe_face", "mediapipe_mesh"):
        if registry.missing(registry.get(name)):
            pytest.skip(f"no weights of {name}: dyconv models pull {name}")
    return FaceModels.load()
