"""Reading and writing pictures and sound, on PyAV (FFmpeg's libraries, carried by its wheel) and soundfile."""
