"""What it takes for x264's bytes to depend on pictures and settings alone, and not on the machine or the moment."""

THREADS = 2  # the output depends on their number, and the default on the machine's cores
# Vector code of the macroblock tree gives other numbers than plain code, and not always the same: with it about one of a
# hundred films of 160x96 pixels came out otherwise for the same pictures, without it none of 400.
SAME_EVERYWHERE = "cpu-independent=1"  # for `x264-params`
