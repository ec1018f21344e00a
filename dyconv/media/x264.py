"""What it takes for x264's bytes to depend on pictures and settings alone, and not on the machine or the moment."""

THREADS = 2  # the output depends on their number, and the default on the machine's cores
# Vector code of the macroblock tree rounds unlike that of other processors, and where a row of macroblocks does not fill
# a vector it reads what lies behind: in about one of a hundred films of 160x96 pixels that changed the output.
SAME_EVERYWHERE = "cpu-independent=1"  # for `x264-params`
