"""The steps of the pipeline, one file each, all with the contract of `dyconv.stages.base`."""
