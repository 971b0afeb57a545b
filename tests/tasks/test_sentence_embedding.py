"""Sentence embeddings of a real pretrained model against sentence-transformers, and against gold scores."""

import csv
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
from numpy.typing import NDArray
from scipy.stats import spearmanr
from typer.testing import CliRunner

import triform
from triform.cli.main import app
from triform.errors import InputError, TruncationWarning, UnsupportedModelError

TEXTS = [
    "A cat sat on the mat.",
    "",
    "Ein Kätzchen saß auf der Matte — 猫がマットの上に座った 🐈.",
    "Donaudampfschifffahrtsgesellschaftskapitän" * 3,
    "The quick brown fox jumps over the lazy dog. " * 12,
    "no",
]


@pytest.fixture(scope="module")
def reference(minilm: Path) -> Any:
    return sentence_transformers.SentenceTransformer(str(minilm), device="cpu")


@pytest.fixture(scope="module")
def embed(minilm: Path) -> Any:
    return triform.pipeline("sentence-embedding", model=minilm)


def test_equals_sentence_transformers(embed: Any, reference: Any) -> None:
    expected = reference.encode(TEXTS)
    actual = embed(TEXTS)
    assert actual.shape == (len(TEXTS), 384)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_is_the_same_alone_and_in_a_batch(embed: Any) -> None:
    together = embed(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        # BLAS may sum in another order for another number of rows.
        np.testing.assert_allclose(embed(text), vector, rtol=0, atol=1e-6)


def test_takes_one_text_a_list_and_an_iterator(embed: Any) -> None:
    assert embed(TEXTS[0]).shape == (384,)
    assert embed([]).shape == (0, 384)
    stream = embed(text for text in TEXTS)
    assert [vector.shape for vector in stream] == [(384,)] * len(TEXTS)


def test_long_text_is_refused_or_cut_aloud(embed: Any, reference: Any) -> None:
    text = "word " * 300
    with pytest.raises(InputError, match="302 tokens, more than the 256 that fit"):
        embed(text)
    with pytest.warns(TruncationWarning, match="46 tokens were not read"):
        actual = embed(text, long_input="truncate")
    np.testing.assert_allclose(actual, reference.encode(text), rtol=0, atol=1e-5)


def with_pooling(minilm: Path, folder: Path, **pooling: Any) -> Path:
    """Save the model with another 1_Pooling/config.json, with prompts, and without normalisation."""
    shutil.copytree(minilm, folder)
    modules = json.loads((folder / "modules.json").read_text())[:2]
    (folder / "modules.json").write_text(json.dumps(modules))
    config = {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": False, **pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    prompts = {"prompts": {"query": "search for: "}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_sqrt_len_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode_lasttoken": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode": "mean", "include_prompt": False},
        {"pooling_mode": ["max", "mean"]},
    ],
    ids=str,
)
def test_poolings_and_prompts(minilm: Path, tmp_path: Path, pooling: dict[str, Any]) -> None:
    folder = with_pooling(minilm, tmp_path / "model", **pooling)
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    embed = triform.pipeline("sentence-embedding", model=folder)
    texts = [text for text in TEXTS if text]
    for options in ({}, {"prompt_name": "query"}, {"prompt": "a title: "}):
        expected = reference.encode(texts, **options)
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(embed(texts, **options), expected, rtol=0, atol=1e-5 * scale)
    unit = embed(texts, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=0, atol=1e-5)


def test_similarity_is_the_cosine_of_the_embeddings(minilm: Path, tmp_path: Path) -> None:
    texts = [text for text in TEXTS if text]
    given = {"source_sentence": texts[0], "sentences": texts}
    for folder in (minilm, with_pooling(minilm, tmp_path / "model", pooling_mode="max")):
        reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
        compare = triform.pipeline("sentence-similarity", model=folder, token_budget=64)
        vectors = reference.encode(texts)
        expected = sentence_transformers.util.cos_sim(vectors[0], vectors)[0].tolist()
        assert compare(given) == pytest.approx(expected, abs=1e-5)
        assert compare([given, {"source_sentence": "", "sentences": ["no"]}])[0] == pytest.approx(expected, abs=1e-5)
    prompted = reference.encode(texts, prompt_name="query")
    expected = sentence_transformers.util.cos_sim(prompted[0], prompted)[0].tolist()
    assert compare(given, prompt_name="query") == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a text", r'Expected an object {"source_sentence": text, "sentences": \[text, …\]}, got \'a text\''),
        ({"source_sentence": "a"}, "Expected an object"),
        ({"source_sentence": 1, "sentences": ["b"]}, "source_sentence: expected a text, got 1"),
        ({"source_sentence": "a", "sentences": []}, r"sentences: expected a list of one or more texts, got \[\]"),
        ({"source_sentence": "a", "sentences": "b"}, "sentences: expected a list of one or more texts, got 'b'"),
        ({"source_sentence": "a", "sentences": [None]}, r"sentences: expected a list .* got \[None\]"),
    ],
    ids=str,
)
def test_similarity_needs_a_source_and_sentences(minilm: Path, given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        triform.pipeline("sentence-similarity", model=minilm)(given)


def test_refuses_what_it_does_not_know(minilm: Path, tmp_path: Path, embed: Any) -> None:
    with pytest.raises(InputError, match="prompt_name='query': the model brings these prompts: none"):
        embed("a text", prompt_name="query")
    folder = with_pooling(minilm, tmp_path / "model", pooling_mode="attention")
    with pytest.raises(UnsupportedModelError, match="pooling_mode is 'attention'; expected one or more of cls, max"):
        triform.pipeline("sentence-embedding", model=folder)
    for kinds, message in (
        (["CNN"], "module 'sentence_transformers.models.CNN' is not supported"),
        (["Dense"], "expected one Transformer, as the first module"),
        (["Transformer", "Dense"], "does not support Dense where it stands"),
    ):
        modules = [
            {"idx": index, "name": str(index), "path": "", "type": f"sentence_transformers.models.{kind}"}
            for index, kind in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(UnsupportedModelError, match=message):
            triform.pipeline("sentence-embedding", model=folder)


@pytest.mark.slow
def test_published_score_through_the_command_line(minilm: Path, data: Path, tmp_path: Path) -> None:
    rows = read_pairs(data)
    gold = [float(row[5]) for row in rows]
    similarity = np.array(
        [
            (first * second).sum()
            for first, second in zip(
                *(embed_file(minilm, [row[column] for row in rows], tmp_path) for column in (6, 7)), strict=True
            )
        ]
    )
    assert len(rows) == 1379
    assert 100 * spearmanr(similarity, gold).statistic == pytest.approx(82.0, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["native", "reference"])
def test_int8_loses_no_more_than_a_third_of_a_point(engine: str, minilm: Path, data: Path) -> None:
    """Quantized activations cause most of the loss: float activations score 81.98."""
    rows = read_pairs(data)
    embed = triform.pipeline("sentence-embedding", model=minilm, engine=engine, dtype="int8")
    first, second = (embed([row[column] for row in rows]) for column in (6, 7))
    score = 100 * spearmanr(np.vecdot(first, second), [float(row[5]) for row in rows]).statistic
    assert score == pytest.approx(81.76, abs=0.03)  # of 82.03 in float32


def read_pairs(data: Path) -> list[list[str]]:
    """Read the test set of STS-B: pairs of sentences in columns 6 and 7, gold scores in column 5."""
    with gzip.open(data / "text" / "stsb" / "stsbenchmark.tsv.gz", "rt", encoding="utf-8") as lines:
        return [row for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if row[0] == "test"]


def embed_file(model: Path, texts: list[str], folder: Path) -> NDArray[np.float64]:
    """Embed texts through files and `triform run`."""
    (folder / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    arguments = ["--model", str(model), "--input", str(folder / "texts.txt"), "--output", str(folder / "vectors.jsonl")]
    arguments.append("--overwrite")
    result = CliRunner().invoke(app, ["run", "sentence-embedding", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    vectors = [json.loads(line) for line in (folder / "vectors.jsonl").read_text().splitlines()]
    assert len(vectors) == len(texts)
    return np.array(vectors)
