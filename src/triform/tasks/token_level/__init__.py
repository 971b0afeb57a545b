"""Tasks with an answer for each token, or for some tokens: a head over every row."""
