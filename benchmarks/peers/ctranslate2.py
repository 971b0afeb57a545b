"""CTranslate2: encoders, with the mean taken by NumPy, and encoder-decoders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Embed, Translate

END = 0
"""The end token of a Marian source; suppressed in answers, so that all answers have the same length."""


def convert_encoder(checkpoint: Path, folder: Path, format: str) -> None:
    _convert(checkpoint, folder, format)


def convert_encoder_decoder(checkpoint: Path, folder: Path, format: str) -> None:
    _convert(checkpoint, folder, format)


def load_encoder(folder: Path, format: str, *, streams: int, threads: int) -> Embed:
    encoder = ctranslate2.Encoder(str(folder), compute_type=format, inter_threads=streams, intra_threads=threads)

    def embed(texts: Sequence[list[int]]) -> NDArray[np.float32]:
        states = np.asarray(encoder.forward_batch(texts).last_hidden_state)
        lengths = np.array([len(text) for text in texts])[:, None]
        weights = (np.arange(states.shape[1]) < lengths) / lengths
        means: NDArray[np.float32] = (weights[:, None, :].astype(np.float32) @ states)[:, 0]
        return means

    return embed


def load_encoder_decoder(folder: Path, format: str, *, streams: int, threads: int) -> Translate:
    translator = ctranslate2.Translator(str(folder), compute_type=format, inter_threads=streams, intra_threads=threads)

    def translate(sources: Sequence[list[int]], num_tokens: int, num_beams: int) -> list[list[int]]:
        results = translator.translate_batch(
            [[_word(id) for id in source] for source in sources],
            beam_size=num_beams,
            min_decoding_length=num_tokens,
            max_decoding_length=num_tokens,
            max_batch_size=-(-len(sources) // streams),
        )
        return [[int(word[1:]) for word in result.hypotheses[0]] for result in results]

    return translate


def _convert(checkpoint: Path, folder: Path, format: str) -> None:
    # The import is local to conversion, so that a process that only runs the model does not count the module.
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]
        """A converter invents words if a checkpoint of random weights has none."""

        def load_tokenizer(self, *_: Any, **__: Any) -> "_Words":
            return _Words(checkpoint)

    Converter(str(checkpoint)).convert(str(folder), quantization=format, force=True)


class _Words:
    """A tokenizer with only the interface of the converter: a word for each id."""

    def __init__(self, checkpoint: Path) -> None:
        import json

        config = json.loads((checkpoint / "config.json").read_text())
        self.unk_token, self.eos_token = _word(END + 1), _word(END)
        self._vocab = {_word(id): id for id in range(config["vocab_size"])}
        if config["model_type"] == "marian":
            # Decoders start from a last token of this name.
            self._vocab["<pad>"] = self._vocab.pop(_word(config["vocab_size"] - 1))

    def get_vocab(self) -> dict[str, int]:
        return self._vocab


def _word(id: int) -> str:
    return f"w{id}"
