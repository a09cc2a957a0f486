"""``python -m pipelines.stream``: the command `beam-ml stream`."""

from beam_ml.cli.stream import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
