"""An answer for each token, or for some: a head over every row."""
