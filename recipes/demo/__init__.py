"""Training of the models in the package: data and recipes."""
