"""The `cuts` recipe: any video cut at its hard cuts into normalized clips. No people are looked for."""

from __future__ import annotations

from dyconv.download.licences import OPEN_LICENCES
from dyconv.recipe import Recipe
from dyconv.records import Key
from dyconv.stages.clips import Clips
from dyconv.stages.download import Download
from dyconv.stages.normalize import Normalize
from dyconv.stages.scenes import Scenes

RECIPE = Recipe(
    name="cuts",
    about="Every shot of at least one second as a clip of 25 fps video and 16 kHz mono sound, aligned to the sample.",
    stages=(
        Download(licences=OPEN_LICENCES, allow_local=True, per_host_interval_s=0.0),
        Scenes(max_segment_s=600.0),
        Normalize(max_height=1080),
        Clips(min_clip_s=1.0, max_clip_s=60.0, people_seen=()),
    ),
    pack=(Key.VIDEO, Key.MIX),
)
