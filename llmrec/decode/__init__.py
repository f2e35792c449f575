"""Decoders: an axis of the benchmark."""
