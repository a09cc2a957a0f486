"""``python -m pipelines.simulate FOLDER``: the demo's card transactions, one Parquet file per day."""

from beam_ml.cli.simulate import SCHEMA, main, simulate_days, write_days

__all__ = ["SCHEMA", "main", "simulate_days", "write_days"]

if __name__ == "__main__":
    main()
