"""The `research` recipe: `dyconv` with the gated models, for those who hold their weights and licences.

`dyconv models list` says where each comes from; `dyconv doctor` says whether this machine can run the recipe.
"""

from __future__ import annotations

from dataclasses import replace

from dyconv.recipe import Recipe
from dyconv.stages.base import Stage
from dyconv.stages.clean import Clean
from dyconv.stages.people import People
from dyconv.stages.separate import Separate
from dyconv.stages.tracks import Tracks
from pipelines.dyconv import RECIPE as DYCONV


def _with_gated_models(stage: Stage) -> Stage:
    if isinstance(stage, Tracks):
        return replace(stage, landmarker="mediapipe_task", identity="insightface_buffalo_l")
    if isinstance(stage, Clean):
        return replace(stage, enhancer="htdemucs")
    if isinstance(stage, People):
        return replace(stage, active_speaker="lr_asd", diarizer="pyannote_community")
    if isinstance(stage, Separate):
        return replace(stage, separator="pyannote_separation")
    return stage


RECIPE: Recipe = replace(
    DYCONV,
    name="research",
    about=(
        f"{DYCONV.about} Landmarks by the official MediaPipe task, identities by ArcFace, which hold across sources; lips by "
        "LR-ASD, voices by pyannote's community pipeline and speech separation, clean-up by the published HTDemucs."
    ),
    stages=tuple(_with_gated_models(stage) for stage in DYCONV.stages),
)
