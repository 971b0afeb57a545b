"""Text → tokens and ids, and back."""
