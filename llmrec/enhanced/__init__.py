"""Recommenders that read titles as vectors: SASRec over them, and its blend with SASRec over ids."""
