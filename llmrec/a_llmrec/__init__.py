"""A-LLMRec: its alignment stage and the method."""
