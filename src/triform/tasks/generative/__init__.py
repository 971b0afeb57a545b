"""Text from text: a decoder that answers token by token."""
