"""Numbers from papers, to stand beside ours. None was measured on our data, at our resolution or with our features."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A table of a paper. `rows` has one number for each of `columns`, as the paper prints it.

    `ours` names for each column the metric of ours that comes nearest; "" where the paper does not say enough to name one.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    ours: tuple[str, ...]


TABLES = (
    Published(
        "Interactive head generation",
        "INFP, arXiv 2412.04037; its test set is not named",
        ("SSIM ↑", "PSNR ↑", "FID ↓", "Sync-C ↑", "SID ↑", "Var ↑"),
        (
            ("ground truth", ("1", "-", "0", "7.261", "2.891", "2.435")),
            ("INFP", ("0.834", "31.56", "15.727", "7.188", "2.613", "2.386")),
            ("DIM", ("0.651", "20.42", "34.361", "4.778", "0.766", "0.825")),
        ),
        ("ssim", "psnr", "fid", "lse-c", "", ""),
    ),
    Published(
        "Ablations of INFP",
        "INFP, arXiv 2412.04037",
        ("SSIM ↑", "FID ↓", "Sync-C ↑", "SID ↑"),
        (
            ("full", ("0.834", "15.73", "7.188", "2.613")),
            ("no motion memory", ("0.830", "18.33", "6.103", "2.153")),
            ("no style", ("0.831", "16.03", "7.062", "2.551")),
            ("intact image", ("0.802", "16.99", "6.812", "2.470")),
            ("landmark map", ("0.821", "16.33", "6.833", "2.601")),
        ),
        ("ssim", "fid", "lse-c", ""),
    ),
    Published(
        "RealTalk",
        "Avatar Forcing's own re-implementation, INFP*; SID with K = 15 / 9",
        ("latency s ↓", "rPCC exp ↓", "rPCC pose ↓", "SID ↑", "Var ↑", "FID ↓", "FVD ↓", "CSIM ↑", "LSE-D ↓", "LSE-C ↑"),
        (("INFP*", ("3.4", "0.035", "0.064", "2.343", "1.638", "24.551", "159.0", "0.867", "8.027", "6.536")),),
        (
            "speed.latency",
            "rpcc.mesh.expression",
            "rpcc.mesh.pose",
            "",
            "",
            "fid",
            "fvd.i3d_logits",
            "csim.arcface",
            "lse-d",
            "lse-c",
        ),
    ),
)
NOTE = (
    "Not comparable: the papers have other people, other data, other resolution and, for SID, Var and rPCC, other "
    "motion features. Rows in italics are of this report, so that the order of magnitude can be seen, no more."
)
