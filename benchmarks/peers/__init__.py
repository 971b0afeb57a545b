"""The peer runtimes: a module for each, named as the library, without imports of the rest.

A module that knows a form of transformer has two functions for it, one that converts a checkpoint into a folder, once,
and one that loads what it finds there. None imports Triform, so that a process can measure a peer alone.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[Sequence[list[int]]], NDArray[np.float32]]
"""One batch of texts as ids, padded in the given order, to means of last hidden states: (texts, hidden_size)."""

Translate = Callable[[Sequence[list[int]], int, int], list[list[int]]]
"""Sources as ids, the number of new tokens and the number of beams, to exactly that many new ids for each source."""


class EncoderPeer(Protocol):
    """A module with encoders."""

    def convert_encoder(self, checkpoint: Path, folder: Path, format: str) -> None:
        """Write the model in the format of the runtime."""

    def load_encoder(self, folder: Path, format: str, *, streams: int, threads: int) -> Embed:
        """Load the model for `streams` Python threads at once, each with `threads` threads in the runtime."""


class EncoderDecoderPeer(Protocol):
    """A module with encoder-decoders."""

    def convert_encoder_decoder(self, checkpoint: Path, folder: Path, format: str) -> None:
        """Write the model in the format of the runtime."""

    def load_encoder_decoder(self, folder: Path, format: str, *, streams: int, threads: int) -> Translate:
        """Load the model."""


NAMES = {
    "transformers": "transformers",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "ctranslate2": "CTranslate2",
    "llama_cpp": "llama.cpp",
}
"""Module → the common name."""

ENCODER_PEERS = {
    "float32": ("transformers", "onnxruntime", "openvino", "ctranslate2"),
    "int8": ("onnxruntime", "openvino", "ctranslate2"),
}
"""Format → the modules with encoders in this format."""

ENCODER_DECODER_PEERS = {"float32": ("transformers", "ctranslate2"), "int8": ("ctranslate2",)}
"""Format → the modules with encoder-decoders in this format."""


def encoder_peer(name: str) -> EncoderPeer:
    """Import a peer, and no other peer."""
    return cast(EncoderPeer, import_module(f"{__name__}.{name}"))


def encoder_decoder_peer(name: str) -> EncoderDecoderPeer:
    """Import a peer, and no other peer."""
    return cast(EncoderDecoderPeer, import_module(f"{__name__}.{name}"))
