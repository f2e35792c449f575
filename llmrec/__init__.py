"""What needs a language model."""
