"""Numbered versions of learners and their models in an object store: publish, read, serve, keep."""

from beam_ml.registry.manifest import File, Manifest, Verdict, manifest_schema
from beam_ml.registry.registry import Found, Registry
from beam_ml.registry.retention import keep, sweep, sweep_rounds, tidy
from beam_ml.registry.rounds import drop_round, new_round_id, put_round, read_round, round_files

__all__ = [
    "File",
    "Found",
    "Manifest",
    "Registry",
    "Verdict",
    "drop_round",
    "keep",
    "manifest_schema",
    "new_round_id",
    "put_round",
    "read_round",
    "round_files",
    "sweep",
    "sweep_rounds",
    "tidy",
]
