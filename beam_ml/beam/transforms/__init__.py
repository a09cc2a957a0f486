"""The steps of a pipeline: blocks, batches, accumulations, learners, versions."""
