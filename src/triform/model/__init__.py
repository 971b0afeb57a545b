"""A model ready to use: a network, its engine and its checkpoint together."""

from triform.model.blueprint import Blueprint, read_blueprint
from triform.model.model import Model, load

__all__ = ["Blueprint", "Model", "load", "read_blueprint"]
