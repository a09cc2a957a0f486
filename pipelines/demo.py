"""``python -m pipelines.demo``: the command `beam-ml demo`."""

from beam_ml.cli.demo import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
