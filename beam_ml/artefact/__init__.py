"""Artefacts: arrays and facts as safetensors files, their migrations, and the wire contracts."""
