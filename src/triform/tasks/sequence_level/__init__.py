"""One answer for a whole text: a head over a pooled vector, or that vector itself."""
