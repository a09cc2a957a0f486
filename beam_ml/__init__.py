"""Streaming machine learning as Apache Beam operators."""
