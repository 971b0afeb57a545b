"""Training: from nothing, from a checkpoint, with a new head. Needs torch."""
