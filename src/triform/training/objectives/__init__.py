"""What a model can learn to do: one file for each objective."""
