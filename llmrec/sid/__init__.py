"""Semantic ids: each item as a short sequence of codes, made from the vector of its title."""
