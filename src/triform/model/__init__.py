"""A model ready to use: network, engine and checkpoint together."""

from triform.model.blueprint import Blueprint
from triform.model.loading import load, load_for_training, read_blueprint
from triform.model.model import Model
from triform.model.new_head import NewHead

__all__ = ["Blueprint", "Model", "NewHead", "load", "load_for_training", "read_blueprint"]
