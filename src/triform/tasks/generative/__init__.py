"""Tasks that write text: a decoder answers token by token."""
