"""The contract and everything around a partial; knows no algorithm, file format or engine."""
