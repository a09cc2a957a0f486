"""``python -m pipelines.evaluate``: the command `beam-ml evaluate`."""

from beam_ml.cli.evaluate import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
