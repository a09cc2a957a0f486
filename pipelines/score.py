"""``python -m pipelines.score``: the command `beam-ml score`."""

from beam_ml.cli.score import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
