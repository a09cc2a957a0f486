"""Rolling windows: their bounds, folds over them without subtraction, counts of categories, and tiles."""

from beam_ml.kernels.compiling import listen

listen()

from beam_ml.kernels.rolling import bounds, counted, folds, merging, registers, tiles  # noqa: E402

__all__ = ["bounds", "counted", "folds", "merging", "registers", "tiles"]
