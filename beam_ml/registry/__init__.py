"""Numbered versions of learners and their models in an object store: publish, read, serve, keep."""

from beam_ml.registry.ledger import Index, Kept, Window, index_of, left_of, place_of, read_index, read_window, window_of
from beam_ml.registry.manifest import File, Manifest, Verdict, manifest_schema
from beam_ml.registry.registry import Found, Registry
from beam_ml.registry.retention import keep, sweep, sweep_rounds, tidy
from beam_ml.registry.rounds import drop_round, new_round_id, put_round, read_round, round_files

__all__ = [
    "File",
    "Found",
    "Index",
    "Kept",
    "Manifest",
    "Registry",
    "Verdict",
    "Window",
    "drop_round",
    "index_of",
    "keep",
    "left_of",
    "manifest_schema",
    "new_round_id",
    "place_of",
    "put_round",
    "read_index",
    "read_round",
    "read_window",
    "round_files",
    "sweep",
    "sweep_rounds",
    "tidy",
    "window_of",
]
