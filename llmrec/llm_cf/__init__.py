"""LLM-CF: the rationale stage and the method."""
