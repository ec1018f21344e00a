"""The `heads` recipe: clips of one person, the first lesson before conversations (INFP's curriculum starts one-sided).

The shards look like those of conversations: p0 is the person seen; p1 is never seen, and has a silent voice unless somebody
off screen talks to p0.
"""

from __future__ import annotations

from dyconv.download.licences import OPEN_LICENCES
from dyconv.recipe import Recipe
from dyconv.records import Key
from dyconv.stages.alone import Alone
from dyconv.stages.clean import Clean
from dyconv.stages.clips import Clips
from dyconv.stages.crop import Crop
from dyconv.stages.download import Download
from dyconv.stages.encode_motion import EncodeMotion
from dyconv.stages.normalize import Normalize
from dyconv.stages.scenes import Scenes
from dyconv.stages.separate import Separate
from dyconv.stages.tracks import Tracks

RECIPE = Recipe(
    name="heads",
    about=(
        "One person alone on screen, talking or listening, with a face from 64 pixels. Clips are single shots of 1 to 60 "
        "seconds. Who speaks off screen while the person's lips are still is p1, a voice put over moving lips is nobody's. "
        "Where nobody is heard, or there is no sound, a clip is kept for its pictures. All models are the packaged ones."
    ),
    stages=(
        Download(licences=(*OPEN_LICENCES, "demo-local"), allow_local=True, per_host_interval_s=0.0),
        Scenes(max_segment_s=600.0),
        Normalize(max_height=1080, silent=True),
        Tracks(detector="mediapipe_face", landmarker="mediapipe_mesh", identity="appearance", min_face_px=64.0),
        Clean(enhancer="htdemucs_small"),
        Alone(
            vad="silero",
            active_speaker="lips_together",
            min_heard_s=0.0,
            partner=True,
            max_offset_frames=3.0,
            min_sync_confidence=0.3,
        ),
        Clips(min_clip_s=1.0, max_clip_s=60.0, people_seen=(1,), min_face_px=64.0, min_heard=0),
        Separate(separator="target_tasnet"),
        Crop(size=512, margin=1.5),
        EncodeMotion(encoder="infp"),
    ),
    pack=(
        *(Key.MIX, Key.SPEECH),
        *(Key.P0_VOICE, Key.P1_VOICE, Key.P0_FACE, Key.P0_CROP, Key.P0_MOTION),
    ),
)
