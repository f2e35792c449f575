"""Texts before they are kept or shown: made harmless, and freed of tokens."""
