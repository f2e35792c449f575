"""LLM-based recommenders that generate a title."""
