"""The backend that is a `tokenizers.Tokenizer`, read from tokenizer.json or built from older files."""

from collections.abc import Iterable, Sequence

import tokenizers

from triform.inputs.backend import Side, Text, Tokens, shares


class LibraryBackend:
    """Safe to share between threads: truncation and padding are never set on it."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[Text], *, special_tokens: bool) -> list[Tokens]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=special_tokens)
        return [_tokens(encoding, encoding.sequence_ids) for encoding in encodings]

    def encode_cut(
        self, text: Text, *, max_length: int, special_tokens: bool, side: Side = "right", only_first: bool = False
    ) -> Tokens:
        parts = text if isinstance(text, tuple) else (text,)
        num_special = self._tokenizer.num_special_tokens_to_add(len(parts) == 2) if special_tokens else 0
        bare = [self._tokenizer.encode(part, add_special_tokens=False) for part in parts]
        lengths = [len(encoding.ids) for encoding in bare]
        kept = shares(lengths, num_special=num_special, max_length=max_length, only_first=only_first)
        for encoding, share in zip(bare, kept, strict=True):
            encoding.truncate(share, direction=side)
        pair = bare[1] if len(bare) == 2 else None
        cut = self._tokenizer.post_process(bare[0], pair, add_special_tokens=special_tokens)
        # The library forgets which text a token is from when it cuts: the first text's come first.
        origins = iter([source for source, encoding in enumerate(bare) for _ in encoding.ids])
        return _tokens(cut, [None if is_special else next(origins) for is_special in cut.special_tokens_mask])

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def join(self, tokens: Iterable[str]) -> str:
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(list(tokens)))

    def id_of(self, token: str) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    @property
    def marks_subwords(self) -> bool:
        return bool(getattr(self._tokenizer.model, "continuing_subword_prefix", None))


def _tokens(encoding: tokenizers.Encoding, sources: Sequence[int | None]) -> Tokens:
    return Tokens(
        ids=encoding.ids,
        segment_ids=encoding.type_ids,
        tokens=encoding.tokens,
        characters=encoding.offsets,
        sources=sources,
        words=encoding.word_ids,
    )
