"""The four uses of SentencePiece files in checkpoints, each built into a `SentencePieceBackend`."""

import re
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import decoders

from triform.errors import TokenizerError
from triform.hub import Checkpoint
from triform.inputs.text.added_tokens import names_of_class, read_added_tokens
from triform.inputs.text.library import damage_in
from triform.inputs.text.metaspace import extra_ids
from triform.inputs.text.sentence_piece import NO_SPACE_BEFORE, TEXT, SentencePieceBackend, Template
from triform.inputs.text.tokenizer_settings import TokenizerSettings
from triform.inputs.text.vocabulary import read_vocabulary

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

LANGUAGE_CODE = re.compile(r">>.*?<<", re.DOTALL)
DECODER = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def build_with_extra_ids(checkpoint: Checkpoint, settings: TokenizerSettings) -> SentencePieceBackend:
    """Build from spiece.model, with <extra_id_99> … <extra_id_0> for the gaps of pretraining (T5).

    eos_token follows every text.

    Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.1.4.

    Raises:
        TokenizerError: the file is damaged, or a setting has a wrong value.
    """
    path = checkpoint.folder / "spiece.model"
    processor = _open(path)
    ids = _own_ids(processor, path)
    extra = [token for token in reversed(extra_ids(settings)) if token not in ids]
    ids |= {token: len(processor) + place for place, token in enumerate(extra)}
    settings.list_also(extra)
    added = _add(checkpoint, settings, ids)
    end = _role(settings, "eos_token", ids, path)
    template = Template(single=(TEXT, end), pair=((TEXT, end), (TEXT, end)))
    unknown = _role(settings, "unk_token", ids, path)
    splits = settings.boolean("split_special_tokens", False)
    return _one_model(
        processor, ids, unknown=unknown, own_ids=True, added=added, splits_special=splits, template=template
    )


def build_with_bytes(checkpoint: Checkpoint, settings: TokenizerSettings) -> SentencePieceBackend:
    """Build from tokenizer.model, which spells unknown characters in bytes (Llama).

    bos_token precedes every text. `legacy` adds a space after an added token, as the first version did.

    Touvron et al. 2023, "LLaMA", section 2.1.

    Raises:
        TokenizerError: the file is damaged, or a setting has a wrong value.
    """
    path = checkpoint.folder / "tokenizer.model"
    processor, spaceless = _open(path), _open(path, NO_SPACE_BEFORE)
    prefix_space = settings.boolean("add_prefix_space", True)
    ids = _own_ids(processor, path)
    added = _add(checkpoint, settings, ids)
    before = (_role(settings, "bos_token", ids, path),) if settings.boolean("add_bos_token", True) else ()
    after = (_role(settings, "eos_token", ids, path),) if settings.boolean("add_eos_token", False) else ()
    whole = (*before, TEXT, *after)
    return SentencePieceBackend(
        first=processor if prefix_space else spaceless,
        rest=processor if prefix_space and settings.boolean("legacy", False) else spaceless,
        ids=ids,
        tokens={number: token for token, number in ids.items()},
        unknown=_role(settings, "unk_token", ids, path),
        own_ids=True,
        added=added,
        splits_special=settings.boolean("split_special_tokens", False),
        template=Template(single=whole, pair=(whole, whole), pair_segment=1),
        trims_spaces=False,
        is_bpe=True,
        joined=partial(_join, strips_space=prefix_space),
    )


def build_with_shifted_ids(checkpoint: Checkpoint, settings: TokenizerSettings) -> SentencePieceBackend:
    """Build from sentencepiece.bpe.model, with ids shifted by one behind four tokens in the order of fairseq (XLM-R).

    cls_token precedes a text, sep_token follows it, two of sep_token separate a pair; mask_token has the last id.

    Conneau et al. 2019, "Unsupervised Cross-lingual Representation Learning at Scale"; Ott et al. 2019, "fairseq".

    Raises:
        TokenizerError: the file is damaged, or a setting has a wrong value.
    """
    path = checkpoint.folder / "sentencepiece.bpe.model"
    processor = _open(path)
    settings.describe("mask_token", {"lstrip": True})
    own_ids = _own_ids(processor, path)
    if [own_ids.get(piece) for piece in ("<unk>", "<s>", "</s>")] != [0, 1, 2]:
        first = list(own_ids)[:3]
        raise TokenizerError(f"{path} begins with {first}, not with <unk>, <s> and </s>. Fetch the file again.")
    ids = {piece: number + 1 for piece, number in own_ids.items()}
    ids |= {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": len(processor) + 1}
    added = _add(checkpoint, settings, ids)
    start, end = (_role(settings, role, ids, path) for role in ("cls_token", "sep_token"))
    template = Template(single=(start, TEXT, end), pair=((start, TEXT, end), (end, TEXT, end)))
    unknown = _role(settings, "unk_token", ids, path)
    splits = settings.boolean("split_special_tokens", False)
    return _one_model(
        processor, ids, unknown=unknown, own_ids=False, added=added, splits_special=splits, template=template
    )


def _one_model(processor: Any, ids: dict[str, int], **rest: Any) -> SentencePieceBackend:
    """Build a backend with one model for all texts, which trims spaces."""
    tokens = {number: token for token, number in ids.items()}
    return SentencePieceBackend(
        first=processor, rest=processor, ids=ids, tokens=tokens, trims_spaces=True, joined=_join, **rest
    )


def build_with_vocabulary(checkpoint: Checkpoint, settings: TokenizerSettings) -> SentencePieceBackend:
    """Build from source.spm, which splits, and vocab.json, which has the ids (Marian).

    eos_token follows every text; a language code such as >>fra<< may precede it. Answers are in the target's language:
    target.spm joins their pieces. Their ids are in vocab.json too, or in target_vocab.json with `separate_vocabs`.

    Junczys-Dowmunt et al. 2018, "Marian"; Johnson et al. 2017 for the code of the language wanted.

    Raises:
        TokenizerError: a file is damaged, or a setting has a wrong value.
    """
    settings.expect("split_special_tokens", False)
    settings.expect("sp_model_kwargs", {})
    processor, target = (_open(checkpoint.folder / name) for name in ("source.spm", "target.spm"))
    path = checkpoint.folder / "vocab.json"
    ids = read_vocabulary(path)
    added = _add(checkpoint, settings, ids)
    separate = settings.boolean("separate_vocabs", False)
    answers = read_vocabulary(checkpoint.folder / "target_vocab.json") if separate else ids
    end = _role(settings, "eos_token", ids, path)
    return SentencePieceBackend(
        first=processor,
        rest=processor,
        ids=ids,
        tokens={number: token for token, number in answers.items()},
        unknown=_role(settings, "unk_token", ids, path),
        own_ids=False,
        added=added,
        template=Template(single=(TEXT, end), pair=((TEXT,), (TEXT, end))),
        trims_spaces=True,
        joined=partial(_join_by_model, target, frozenset(token.content for token in added if token.special)),
        answering=target,
        opening=LANGUAGE_CODE,
    )


def _open(path: Path, changes: bytes = b"") -> "SentencePieceProcessor":
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor()
    try:
        processor.load_from_serialized_proto(path.read_bytes() + changes)
    except FileNotFoundError as error:
        raise TokenizerError(f"{path.parent} has no {path.name}, the SentencePiece model. Fetch it.") from error
    except Exception as error:  # the library raises nothing more precise
        raise TokenizerError(f"{path} is damaged, or no SentencePiece model: {error}. Fetch the file again.") from error
    if not len(processor):
        raise TokenizerError(f"{path} holds no pieces. Fetch the file again.")
    return processor


def _join(pieces: list[str], *, strips_space: bool = True) -> str:
    text = str(DECODER.decode(pieces))
    return text.removeprefix(" ") if strips_space else text


def _join_by_model(processor: "SentencePieceProcessor", special: frozenset[str], pieces: list[str]) -> str:
    """Join each run of pieces between special tokens, which the model itself does not know."""
    runs: list[str] = []
    for is_special, run in groupby(pieces, special.__contains__):
        tokens = list(run)
        runs += [f"{token} " for token in tokens] if is_special else [processor.decode_pieces(tokens)]
    return "".join(runs).replace("▁", " ").strip()


def _own_ids(processor: "SentencePieceProcessor", path: Path) -> dict[str, int]:
    with damage_in(str(path)):  # a piece may be invalid UTF-8
        return {piece: number for number, piece in enumerate(processor.id_to_piece(list(range(len(processor)))))}


def _add(checkpoint: Checkpoint, settings: TokenizerSettings, ids: dict[str, int]) -> tuple[tokenizers.AddedToken, ...]:
    """Add the added tokens to `ids`; leave out the token of a role that has no id."""
    tokens = read_added_tokens(checkpoint, settings, {})
    optional = names_of_class(settings)
    owners = {number: token for token, number in ids.items()}
    added = []
    for number, token in tokens:
        if number is not None:
            owner = owners.setdefault(number, token.content)
            if ids.setdefault(token.content, number) != number or owner != token.content:
                raise TokenizerError(
                    f"{checkpoint.folder}: the added token {token.content!r} should have id {number}, but the "
                    f"vocabulary has it as {ids[token.content]}, and {number} is {owner!r}. Fetch the tokenizer's "
                    "files again."
                )
        if number is None and token.content not in optional:
            ids.setdefault(token.content, max(ids.values()) + 1)
        if token.content in ids:
            added.append(token)
    return tuple(added)


def _role(settings: TokenizerSettings, role: str, ids: dict[str, int], path: Path) -> str:
    content = settings.content(role)
    if content is None or content not in ids:
        raise TokenizerError(
            f"{path} has no {content!r}, the {role} that it needs. Fetch the file again, or name the token "
            f'as "{role}" in tokenizer_config.json.'
        )
    return content
