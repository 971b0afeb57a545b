"""Modules of sentence-transformers behind the pooling: dense modules, norms in any order, truncated vectors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, util
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling

import triform
from tests.weights import edit_tensors
from triform.errors import InputError, UnsupportedModelError, WeightError
from triform.weights.convert import convert

TEXTS = ["A cat sat on the mat.", "no", "Ein Kätzchen saß auf der Matte — 猫 🐈. " * 3]


def save(minilm: Path, folder: Path, *modules: Any, pooling: Any = "mean", **settings: Any) -> Path:
    """Save the model with these modules behind the pooling."""
    transformer = Transformer(str(minilm))
    reference = SentenceTransformer(
        modules=[transformer, Pooling(384, pooling_mode=pooling), *modules], device="cpu", **settings
    )
    reference.save(str(folder))
    return folder


def dense(in_features: int, out_features: int, activation: Any = None, **options: Any) -> Dense:
    torch.manual_seed(in_features)
    return Dense(in_features, out_features, activation_function=activation or torch.nn.Identity(), **options)


MODULES: dict[str, tuple[Any, ...]] = {
    "dense": (dense(384, 64),),
    "dense, then norm": (dense(384, 96, torch.nn.Tanh()), Normalize()),
    "norm, then dense": (Normalize(), dense(384, 96, torch.nn.GELU(), bias=False)),
    "two dense": (dense(384, 512, torch.nn.ReLU()), dense(512, 32, torch.nn.SiLU()), Normalize()),
    "residual": (dense(384, 384, torch.nn.Tanh(), use_residual=True), dense(384, 48, use_residual=True), Normalize()),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODULES)
def test_modules_equal_those_of_sentence_transformers(kind: str, minilm: Path, tmp_path: Path) -> None:
    folder = save(minilm, tmp_path / "made", *MODULES[kind])
    reference = SentenceTransformer(str(folder), device="cpu")
    embed = triform.pipeline("sentence-embedding", model=folder)
    for size in (None, 16):
        for normalize in (None, True):
            expected = reference.encode(TEXTS, truncate_dim=size, normalize_embeddings=bool(normalize))
            actual = embed(TEXTS, truncate_dim=size, normalize=normalize)
            assert actual.shape == expected.shape
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    assert embed([]).shape == (0, reference.get_embedding_dimension())
    # A saved model contains the modules.
    embed.model.save(tmp_path / "saved")
    np.testing.assert_array_equal(triform.pipeline("sentence-embedding", model=tmp_path / "saved")(TEXTS), embed(TEXTS))


def test_the_last_norm_can_be_left_out(minilm: Path, tmp_path: Path) -> None:
    norm, last = Normalize(), dense(384, 32)
    plain = triform.pipeline("sentence-embedding", model=save(minilm, tmp_path / "plain", norm, last))
    closed = triform.pipeline("sentence-embedding", model=save(minilm, tmp_path / "closed", norm, last, Normalize()))
    np.testing.assert_array_equal(closed(TEXTS, normalize=False), plain(TEXTS))
    np.testing.assert_array_equal(plain(TEXTS, normalize=False), plain(TEXTS))


def test_similarity_is_of_the_cut_vectors(minilm: Path, tmp_path: Path) -> None:
    folder = save(minilm, tmp_path / "model", dense(384, 96, torch.nn.Tanh()), pooling="cls")
    reference = SentenceTransformer(str(folder), device="cpu")
    compare = triform.pipeline("sentence-similarity", model=folder)
    for size in (None, 7):
        vectors = reference.encode(TEXTS, truncate_dim=size)
        expected = util.cos_sim(vectors[0], vectors)[0].tolist()
        given = {"source_sentence": TEXTS[0], "sentences": TEXTS}
        assert compare(given, truncate_dim=size) == pytest.approx(expected, abs=1e-5)


def test_the_model_may_say_where_to_cut(minilm: Path, tmp_path: Path) -> None:
    folder = save(minilm, tmp_path / "model", Normalize(), truncate_dim=48)
    embed = triform.pipeline("sentence-embedding", model=folder)
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert embed(TEXTS).shape == expected.shape == (3, 48)
    np.testing.assert_allclose(embed(TEXTS), expected, rtol=0, atol=1e-5)
    assert embed(TEXTS, truncate_dim=384).shape == (3, 384)
    assert triform.pipeline("sentence-embedding", model=folder, truncate_dim=5)([]).shape == (0, 5)
    with pytest.raises(InputError, match="truncate_dim=385: the model's vectors have only 384 numbers"):
        embed(TEXTS, truncate_dim=385)
    with pytest.raises(InputError, match="at least 1"):
        embed(TEXTS, truncate_dim=0)
    with pytest.raises(InputError, match="only 384"):
        triform.pipeline("sentence-embedding", model=folder, truncate_dim=1000)


def test_what_is_wrong_with_a_module_is_said(minilm: Path, tmp_path: Path) -> None:
    folder = save(minilm, tmp_path, dense(384, 8))
    path = folder / "2_Dense" / "config.json"
    sound = json.loads(path.read_text())
    for change, message in (
        ({"activation_function": "torch.nn.modules.activation.ELU"}, "activation_function is .*ELU"),
        ({"module_input_name": "token_embeddings"}, "module_input_name is 'token_embeddings'"),
        ({"dropout": 0.5}, r"does not know these keys(.|\n)*dropout = 0.5"),
        ({"in_features": "many"}, "in_features is 'many'"),
    ):
        path.write_text(json.dumps({**sound, **change}))
        with pytest.raises(UnsupportedModelError, match=message):
            triform.pipeline("sentence-embedding", model=folder)
    path.write_text(json.dumps({**sound, "in_features": 383}))
    with pytest.raises(WeightError, match=r"2_Dense: (.|\n)*misshapen   linear.weight \[8, 384\], expected \[8, 383\]"):
        triform.pipeline("sentence-embedding", model=folder)
    path.write_text(json.dumps(sound))
    edit_tensors(path.parent, lambda tensors: tensors.update(more=torch.ones(2)))
    with pytest.raises(WeightError, match=r"unexpected  more \[2\]"):
        triform.pipeline("sentence-embedding", model=folder)


def test_modules_without_a_pooling_are_refused(minilm: Path, tmp_path: Path) -> None:
    folder = save(minilm, tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    for named, message in ((modules[:0], "expected one Transformer"), (modules[:1], "no module is a Pooling")):
        (folder / "modules.json").write_text(json.dumps(named))
        with pytest.raises(UnsupportedModelError, match=f"modules.json: {message}"):
            triform.pipeline("sentence-embedding", model=folder)


def test_a_module_in_a_pickle_is_refused_with_the_command_that_converts_it(minilm: Path, tmp_path: Path) -> None:
    folder = save(minilm, tmp_path, dense(384, 8))
    expected = triform.pipeline("sentence-embedding", model=folder)(TEXTS)
    weights = edit_tensors(folder / "2_Dense", lambda tensors: None)
    torch.save(weights, folder / "2_Dense" / "pytorch_model.bin")
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(WeightError, match=f"2_Dense holds its weights in a .bin file.*triform convert {folder}"):
        triform.pipeline("sentence-embedding", model=folder)
    convert(folder)
    np.testing.assert_array_equal(triform.pipeline("sentence-embedding", model=folder)(TEXTS), expected)
