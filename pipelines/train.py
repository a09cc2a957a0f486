"""``python -m pipelines.train``: the command `beam-ml train`."""

from beam_ml.cli.train import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
