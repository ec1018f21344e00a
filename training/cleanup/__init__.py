"""Training of `htdemucs_small`: speech against music and noise."""
