"""``python -m beam_ml.cli``: the command `beam-ml` where its script is not on the path."""

from beam_ml.cli.group import main

if __name__ == "__main__":
    main(prog_name="beam-ml")
