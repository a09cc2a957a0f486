"""``python -m pipelines.replay``: the command `beam-ml replay`."""

from beam_ml.cli.replay import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
