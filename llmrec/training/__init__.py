"""Tuning a language model: packed rows, the loop, shared prefixes."""
