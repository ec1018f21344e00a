"""Speech out of music and noise by demucs: our small network (`htdemucs_small`), or the published one (`htdemucs`)."""

from __future__ import annotations

from typing import Any

from dyconv.time import SAMPLE_RATE

# Of `demucs.htdemucs.HTDemucs`; what is not named is demucs' default.
SHAPE: dict[str, Any] = {
    "sources": ["speech", "rest"],
    "audio_channels": 1,
    "samplerate": SAMPLE_RATE,
    "segment": 3,
    "nfft": 1024,
    "channels": 16,
    "t_layers": 1,
    "t_heads": 4,
}
