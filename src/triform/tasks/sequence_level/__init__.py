"""Tasks with one answer for a whole text: a head over a pooled vector, or the pooled vector."""
