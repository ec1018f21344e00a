"""What others published of their data sets, to stand beside ours: their words and counts, not our measurements."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedSet:
    """One data set. None where it was not published."""

    name: str
    hours: str | None
    clips: str | None
    people: str | None
    voices: str
    note: str
    source: str


SETS: tuple[PublishedSet, ...] = (
    PublishedSet(
        "DyConv",
        "more than 200",
        None,
        None,
        "one a person",
        "face-to-face, multi-round, from the Internet; face crops above 400 x 400; never released",
        "INFP, arXiv 2412.04037",
    ),
    PublishedSet(
        "ViCo",
        None,
        "483",
        "92",
        "the speaker's alone, as WAV",
        "listening heads in three attitudes",
        "Zhou et al., arXiv 2112.13548",
    ),
    PublishedSet(
        "RealTalk",
        "115",
        "692 videos",
        None,
        "mixed",
        "YouTube conversations; labels of the active speaker",
        "Geng et al., arXiv 2301.10939",
    ),
    PublishedSet(
        "Seamless Interaction",
        "more than 4,000",
        None,
        "more than 4,000",
        "one a person, 48 kHz",
        "recorded on purpose; CC BY-NC 4.0; voice activity, transcripts, features of faces",
        "its repository, facebookresearch/seamless_interaction",
    ),
    PublishedSet(
        "SpeakerVid-5M",
        "8,743, of which 1,800 dialogue",
        "5.2 million",
        None,
        "mixed",
        "YouTube ids and annotations, no media",
        "Zhang et al., arXiv 2507.09862",
    ),
    PublishedSet(
        "UniLS-Talk",
        "657",
        None,
        None,
        "one a person",
        "pairs; FLAME at 25 frames a second",
        "as others quote it; not checked",
    ),
)
DYCONV_CROP_PX = 400
