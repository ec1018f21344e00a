"""The `demo` recipe: every stage with its default model, and bars that a laptop's clips pass."""

from __future__ import annotations

from dyconv.download.licences import OPEN_LICENCES
from dyconv.recipe import Recipe
from dyconv.records import Key
from dyconv.stages.clean import Clean
from dyconv.stages.clips import Clips
from dyconv.stages.crop import Crop
from dyconv.stages.download import Download
from dyconv.stages.encode_motion import EncodeMotion
from dyconv.stages.normalize import Normalize
from dyconv.stages.people import People
from dyconv.stages.scenes import Scenes
from dyconv.stages.separate import Separate
from dyconv.stages.tracks import Tracks

RECIPE = Recipe(
    name="demo",
    about=(
        "Conversations of two people, with faces from 64 pixels. Clips are single shots of 2 to 60 seconds in which both "
        "are seen, or one is seen while the other is only heard. All models are the packaged ones: no download, no token."
    ),
    stages=(
        Download(licences=(*OPEN_LICENCES, "demo-local"), allow_local=True, per_host_interval_s=0.0),
        Scenes(max_segment_s=600.0),
        Normalize(max_height=1080),
        Tracks(detector="mediapipe_face", landmarker="mediapipe_mesh", identity="appearance", min_face_px=64.0),
        Clean(enhancer="htdemucs_small"),
        People(vad="silero", active_speaker="lips_together", diarizer="pyannote_ge2e", min_seen=1),
        Clips(min_clip_s=2.0, max_clip_s=60.0, people_seen=(1, 2), min_face_px=64.0),
        Separate(separator="target_tasnet"),
        Crop(size=512, margin=1.5),
        EncodeMotion(encoder="infp"),
    ),
    pack=(
        *(Key.MIX, Key.SPEECH),
        *(Key.P0_VOICE, Key.P1_VOICE, Key.P0_FACE, Key.P1_FACE, Key.P0_CROP, Key.P1_CROP),
        *(Key.P0_MOTION, Key.P1_MOTION),
    ),
)
