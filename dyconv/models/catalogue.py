"""The list of models. A line here, a wrapper beside it, and the contract test covers it."""

from __future__ import annotations

from dyconv.infp.weights import ENCODER
from dyconv.models import demucs_load, hub_separators, lr_asd, pyannote_community
from dyconv.models.registry import ModelSpec, Weight

_WHEEL = "mediapipe 0.10.21 wheel (PyPI)"


def _mediapipe(path: str, sha256: str) -> Weight:
    member = f"mediapipe/modules/{path}"
    return Weight(
        path=f"mediapipe/{path.rsplit('/', 1)[1]}",
        sha256=sha256,
        origin=_WHEEL,
        fetch="dyconv.models.fetch:wheel_member",
        member=member,
    )


_MOUTH_SYNC = Weight(
    path="mouth_sync/model.safetensors",
    sha256="28d2b2b4d221399b2511046d4632b2262accdac15d6d1913fee7e5d6b178f3d8",
    origin="trained here: training/active_speaker",
    packaged=True,
)

MODELS: tuple[ModelSpec, ...] = (
    ModelSpec(
        name="mediapipe_face",
        slot="face_detector",
        factory="dyconv.models.mediapipe_face:MediaPipeFaceDetector",
        licence="Apache-2.0",
        about="BlazeFace, short and full range, on the whole picture and on tiles of it",
        weights=(
            _mediapipe(
                "face_detection/face_detection_short_range.tflite",
                "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
            ),
            _mediapipe(
                "face_detection/face_detection_full_range_sparse.tflite",
                "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
            ),
        ),
        default=True,
    ),
    ModelSpec(
        name="mediapipe_mesh",
        slot="face_landmarker",
        factory="dyconv.models.mediapipe_mesh:MediaPipeMesh",
        licence="Apache-2.0",
        about="468-point face mesh and irises, 478 points",
        weights=(
            _mediapipe(
                "face_landmark/face_landmark.tflite", "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814"
            ),
            _mediapipe(
                "iris_landmark/iris_landmark.tflite", "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f"
            ),
        ),
        default=True,
    ),
    ModelSpec(
        name="mediapipe_task",
        slot="face_landmarker",
        factory="dyconv.models.mediapipe_task:MediaPipeTask",
        licence="Apache-2.0",
        about="MediaPipe's official Face Landmarker: attention mesh and irises, 478 points",
        weights=(
            Weight(
                path="mediapipe/face_landmarker.task",
                sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
                origin="https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/face_landmarker.task",
                fetch="dyconv.models.fetch:https_file",
            ),
        ),
        extra="libEGL.so.1 and libGLESv2.so.2 (Debian: libegl1, libgles2)",
    ),
    ModelSpec(
        name="appearance",
        slot="face_identity",
        factory="dyconv.models.appearance:Appearance",
        licence="Apache-2.0",
        about="colours of head and clothes, gradients of the face: holds within one source only",
        default=True,
    ),
    ModelSpec(
        name="insightface_buffalo_l",
        slot="face_identity",
        factory="dyconv.models.insightface:InsightFaceIdentity",
        licence="non-commercial research only",
        about="ArcFace ResNet-50 trained on WebFace600K, 512 numbers a face: holds across sources",
        weights=(
            Weight(
                path="insightface/buffalo_l/w600k_r50.onnx",
                sha256="4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
                origin="https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip",
                fetch="dyconv.models.fetch:archive_member",
                member="w600k_r50.onnx",
            ),
        ),
    ),
    ModelSpec(
        name="silero",
        slot="vad",
        factory="dyconv.models.silero:SileroVad",
        licence="MIT",
        about="silero-vad 6.2.3, the weights packaged with it",
        default=True,
    ),
    ModelSpec(
        name="lip_motion",
        slot="active_speaker",
        factory="dyconv.models.lip_motion:LipMotion",
        licence="Apache-2.0",
        about="speed of the mouth's opening in the face's own frame, and how it goes with the sound",
    ),
    ModelSpec(
        name="lips_together",
        slot="active_speaker",
        factory="dyconv.models.lips_together:LipsTogether",
        licence="non-commercial research only",
        about="mouth_sync and lip_motion together, the mean of their log odds",
        weights=(_MOUTH_SYNC,),
        default=True,
    ),
    ModelSpec(
        name="mouth_sync",
        slot="active_speaker",
        factory="dyconv.models.mouth_sync:MouthSync",
        licence="non-commercial research only",
        about="mouth pictures and lip shapes against mel bands: who speaks, and how far the sound is shifted",
        weights=(_MOUTH_SYNC,),
    ),
    ModelSpec(
        name="lr_asd",
        slot="active_speaker",
        factory="dyconv.models.lr_asd:LrAsd",
        licence="MIT",
        about="LR-ASD, trained on AVA-ActiveSpeaker: lips, face and sound together, the research-grade choice",
        weights=(lr_asd.weight(),),
        extra="DYCONV_LR_ASD=PATH takes the published weights from where they lie",
    ),
    ModelSpec(
        name="pyannote_ge2e",
        slot="diarizer",
        factory="dyconv.models.pyannote_ge2e:PyannoteGe2e",
        licence="MIT (segmentation), Apache-2.0 (voices)",
        about="pyannote.audio's pipeline with published weights from PyPI: pyannote/segmentation (2022), GE2E voices",
        weights=(
            Weight(
                path="pyannote_ge2e/segmentation.bin",
                sha256="0b5b3216d60a2d32fc086b47ea8c67589aaeb26b7e07fcbe620d6d0b83e209ea",
                origin="whisperx 3.8.6 wheel (PyPI)",
                fetch="dyconv.models.fetch:wheel_member",
                member="whisperx/assets/pytorch_model.bin",
            ),
            Weight(
                path="pyannote_ge2e/voices.pt",
                sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
                origin="resemblyzer 0.1.4 wheel (PyPI)",
                fetch="dyconv.models.fetch:wheel_member",
                member="resemblyzer/pretrained.pt",
            ),
        ),
        default=True,
    ),
    ModelSpec(
        name="pyannote_small",
        slot="diarizer",
        factory="dyconv.models.pyannote_small:PyannoteSmall",
        licence="non-commercial research only",
        about="pyannote.audio's diarization pipeline with small models trained here: PyanNet, x-vectors",
        weights=(
            Weight(
                path="pyannote_small/config.json",
                sha256="a7282808d4f1215c159eaf95e1dfbb5779f6ab020b919262235942766247d0e8",
                origin="trained here: training/diarization",
                packaged=True,
            ),
            Weight(
                path="pyannote_small/segmentation.safetensors",
                sha256="3363013915b5b02f1e9eaf409f256f1ec9e21d8082654317903f15d391378ca7",
                origin="trained here: training/diarization",
                packaged=True,
            ),
            Weight(
                path="pyannote_small/embedding.safetensors",
                sha256="b821c1b6524c34084b8791a720121c80928daa38973edd24ca8dd0dc7d1f5485",
                origin="trained here: training/diarization",
                packaged=True,
            ),
        ),
    ),
    ModelSpec(
        name="pyannote_community",
        slot="diarizer",
        factory="dyconv.models.pyannote_community:PyannoteCommunity",
        licence="CC-BY-4.0, conditions to accept on the hub",
        about="pyannote.audio's published pipeline, speaker-diarization-community-1",
        weights=(pyannote_community.hub_weight(),),
        extra="HF_TOKEN to pull it; DYCONV_PYANNOTE=FOLDER or a hub id takes another pipeline",
    ),
    ModelSpec(
        name="htdemucs_small",
        slot="enhancer",
        factory="dyconv.models.demucs_enhancer:DemucsEnhancer",
        licence="non-commercial research only",
        about="a small Hybrid Transformer Demucs trained here, speech and rest: mono 16 kHz, 35 times real time on one core",
        weights=(
            Weight(
                path="htdemucs_small/model.safetensors",
                sha256="a594498ad1a9ae3a4dd1e90abdd13c216dc677c155bf5d09d728e7ad99a5e5bd",
                origin="trained here: training/cleanup",
                packaged=True,
            ),
        ),
        default=True,
    ),
    ModelSpec(
        name="htdemucs",
        slot="enhancer",
        factory="dyconv.models.demucs_enhancer:DemucsEnhancer",
        licence="MIT",
        about="the published Hybrid Transformer Demucs, its vocals: 44.1 kHz stereo, about real time",
        weights=(demucs_load.published(),),
        extra="DYCONV_HTDEMUCS=FILE takes a file of demucs' hub or of a local repository from where it lies",
    ),
    ModelSpec(
        name="turn_gate",
        slot="separator",
        factory="dyconv.models.turn_gate:TurnGate",
        licence="Apache-2.0",
        about="each voice is the mix gated by attributed turns; no separation in overlap",
    ),
    ModelSpec(
        name="target_tasnet",
        slot="separator",
        factory="dyconv.models.target_tasnet:TargetTasnet",
        licence="non-commercial research only",
        about="overlaps parted by what each person sounds like alone, corrected by a small network; the mix elsewhere",
        weights=(
            Weight(
                path="target_tasnet/model.safetensors",
                sha256="990c11029f662aa58ecb32da50427e24af093e73336071635f4577017f48fce4",
                origin="trained here: training/separation",
                packaged=True,
            ),
        ),
        default=True,
    ),
    ModelSpec(
        name="pyannote_separation",
        slot="separator",
        factory="dyconv.models.pyannote_separation:PyannoteSeparation",
        licence="MIT, conditions to accept on the hub",
        about="pyannote.audio's SpeechSeparation pipeline, trained on AMI: its sources in overlap",
        weights=(hub_separators.pyannote_weight(),),
        extra="pip install 'pyannote.audio[separation]' speechbrain; HF_TOKEN to pull it, or DYCONV_PYANNOTE_SEPARATION=FOLDER",
    ),
    ModelSpec(
        name="speechbrain_sepformer",
        slot="separator",
        factory="dyconv.models.speechbrain_separation:SpeechBrainSepformer",
        licence="Apache-2.0, trained on WHAMR! (non-commercial)",
        about="SpeechBrain's SepFormer trained on WHAMR! at 16 kHz: its sources in overlap",
        weights=(hub_separators.sepformer_weight(),),
        extra="pip install speechbrain; DYCONV_SEPFORMER=FOLDER or a hub id takes another model",
    ),
    ModelSpec(
        name="mesh",
        slot="motion_encoder",
        factory="dyconv.models.mesh_motion:MeshMotion",
        licence="Apache-2.0",
        about="head pose, gaze, 21 expressions and 33 shape numbers from the face mesh; a hand-made basis, no training data",
    ),
    ModelSpec(
        name="infp",
        slot="motion_encoder",
        factory="dyconv.models.infp_motion:InfpMotion",
        licence="non-commercial research only",
        about="the motion encoder of INFP Stage 1, trained here: 512 numbers that the renderer and Stage 2 know",
        weights=(ENCODER,),
        default=True,
    ),
)
