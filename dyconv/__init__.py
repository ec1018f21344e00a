"""The open DyConv pipeline: from conversation videos to verified dual-track WebDataset shards."""

__version__ = "0.1.0"
