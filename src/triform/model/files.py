"""Files of a model with an adapter: which of two folders each file is taken from.

| file                                     | folder                                                    |
|------------------------------------------|-----------------------------------------------------------|
| config.json, generation_config.json      | the model's; labels and size of the vocabulary by adapter |
| weights                                  | the model's, changed by the adapter's                     |
| tokenizer with its chat templates        | the adapter's if it has one of them, else the model's     |
| modules and prompts of sentence encoders | the adapter's if it has one of them, else the model's     |

`Checkpoint.having` chooses for the last two. The reference implementations take the same files from the folder of an
adapter.
"""

import warnings
from dataclasses import replace
from pathlib import Path

from triform.errors import AdapterWarning, ModelNotFoundError, UnsupportedModelError
from triform.hub import ADAPTER, MODEL, Checkpoint, find_checkpoint


def find_files(model: str | Path, revision: str | None, adapter: str | Path | None) -> Checkpoint:
    """Find the files of a model and of an adapter.

    A model's folder may bring an adapter of its own. The folder of an adapter alone names its base model. The reference
    implementation puts the adapter on the model in both cases.

    Raises:
        ModelNotFoundError: model or adapter cannot be found.
        UnsupportedModelError: `adapter` is given, and the model has an adapter of its own.
    """
    checkpoint = find_checkpoint(model, revision=revision)
    own = checkpoint if checkpoint.has(ADAPTER.config) else None
    other = None if adapter is None else find_checkpoint(adapter, files=ADAPTER)
    if own is None or (other is not None and other.folder.samefile(own.folder)):
        return replace(checkpoint, adapter=other)
    if other is not None:
        raise UnsupportedModelError(
            f"adapter={str(adapter)!r}: {model} already has an adapter, in {ADAPTER.config}. Name its base model as "
            "the model, or save the model with its adapter merged."
        )
    if checkpoint.has(MODEL.config) and (checkpoint.has(MODEL.weights) or checkpoint.has(MODEL.index)):
        return replace(checkpoint, adapter=own)
    from triform.weights.adapter_config import AdapterConfig

    config = AdapterConfig.of_checkpoint(own)
    try:
        base = find_checkpoint(config.base or "", revision=config.revision)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{model} is an adapter of {config.base!r}, which cannot be found: {error} "
            f"Or name the folder of the base model as the model, and adapter={str(model)!r}."
        ) from error
    return replace(base, adapter=own)


def warn_of_generation_config(checkpoint: Checkpoint) -> None:
    """Warn of an adapter's generation settings: the model's count, as in the reference implementation."""
    name, adapter = "generation_config.json", checkpoint.adapter
    if adapter is None or not adapter.has(name):
        return
    if not checkpoint.has(name) or adapter.read_object(name) != checkpoint.read_object(name):
        warnings.warn(
            f"{adapter.folder / name} differs from the model's, which counts. Pass the settings as arguments, or copy "
            f"them to {checkpoint.folder}.",
            AdapterWarning,
            stacklevel=2,
        )
