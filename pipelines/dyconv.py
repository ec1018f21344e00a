"""The `dyconv` recipe: the bar of the DyConv dataset as the INFP paper describes it.

More than 200 hours of face-to-face, multi-round conversations from the Internet, face crops above 400x400 pixels, the
voice of each person alone. What the paper leaves open is decided here, and stands in the fields below.
"""

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
    name="dyconv",
    about=(
        "Face-to-face conversations of two people who are both seen and speak in at least two rounds, at 25 fps, with faces "
        "of at least 400 pixels. Clips are single shots of 3 to 60 seconds. A clip in which a voice "
        "cannot be had alone is left out."
    ),
    stages=(
        Download(licences=OPEN_LICENCES, allow_local=True, max_height=2160, min_height=720),
        Scenes(max_segment_s=600.0),
        Normalize(max_height=2160),
        Tracks(detector="mediapipe_face", landmarker="mediapipe_mesh", identity="appearance", min_face_px=400.0),
        Clean(enhancer="htdemucs_small", max_rest_db=0.0),
        People(
            vad="silero",
            active_speaker="lips_together",
            diarizer="pyannote_ge2e",
            min_seen=2,
            min_heard_s=3.0,
            min_changes=3,
            max_offset_frames=2.0,
        ),
        Clips(min_clip_s=3.0, max_clip_s=60.0, people_seen=(2,), min_face_px=400.0, min_coverage=0.9),
        Separate(separator="target_tasnet", max_bleed_db=-20.0, max_overlap_share=0.2),
        Crop(size=512, margin=1.5),
        EncodeMotion(encoder="infp"),
    ),
    pack=(
        *(Key.MIX, Key.SPEECH),
        *(Key.P0_VOICE, Key.P1_VOICE, Key.P0_FACE, Key.P1_FACE, Key.P0_CROP, Key.P1_CROP),
        *(Key.P0_MOTION, Key.P1_MOTION),
    ),
)
