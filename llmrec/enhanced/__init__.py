"""Sequential recommenders that an LLM enhances."""
