"""Messages of a conversation → text, by the checkpoint's chat template."""
