"""The `apart` recipe: conversations whose two people were recorded each by themselves, as imported sets have them."""

from __future__ import annotations

from dyconv.download.licences import OPEN_LICENCES
from dyconv.recipe import Recipe
from dyconv.records import Key
from dyconv.stages.clips import Clips
from dyconv.stages.crop import Crop
from dyconv.stages.download import Download
from dyconv.stages.encode_motion import EncodeMotion
from dyconv.stages.normalize import Normalize
from dyconv.stages.scenes import Scenes
from dyconv.stages.separate import Separate
from dyconv.stages.sides import Sides
from dyconv.stages.tracks import Tracks

RECIPE = Recipe(
    name="apart",
    about=(
        "Conversations of two people of whom each was recorded apart. Who is who is known from the recordings, turns are the "
        "published ones where there are any, and voices are the recordings' own: nothing is separated."
    ),
    stages=(
        Download(licences=(*OPEN_LICENCES, "demo-local"), allow_local=True, per_host_interval_s=0.0),
        Scenes(max_segment_s=600.0),
        Normalize(max_height=1080),
        Tracks(detector="mediapipe_face", landmarker="mediapipe_mesh", identity="appearance", min_face_px=64.0),
        Sides(vad="silero"),
        Clips(min_clip_s=1.0, max_clip_s=60.0, people_seen=(1, 2), min_face_px=64.0),
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
