"""Training of the default diarizer: pyannote.audio's segmentation and speaker embedding, small, on composed conversations."""
