"""Music that no model was trained on, if the corpora are on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from dyconv.media.source import UnreadableSource, probe

_MUSIC_S = 20.0


def held_out_music() -> list[Path]:
    """Music of the packages in `DYCONV_CORPORA` (see `training.corpora.fetch_packages`) that is held out of training."""
    folder = os.environ.get("DYCONV_CORPORA")
    if not folder or not Path(folder).is_dir():
        return []
    from training.corpora import MUSIC, sounds

    return [path for path in sounds(Path(folder), MUSIC, held_out=True) if _seconds(path) >= _MUSIC_S]


def _seconds(path: Path) -> float:
    try:
        return float(probe(path).duration or 0)
    except UnreadableSource:
        return 0.0
