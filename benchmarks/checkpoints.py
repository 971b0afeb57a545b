"""Checkpoints made on the fly: the shape of a known model with random weights, which run as fast as trained ones."""

from pathlib import Path
from typing import Any

import torch
import transformers


def save_random(kind: str, config: Any, folder: Path) -> Path:
    """Write a model of the transformers class `kind`, its matrices such that states neither grow nor fade."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
    transformers.logging.disable_progress_bar()
    model.save_pretrained(folder)
    return folder
