"""The models in the package: size, cards, equality with transformers, and answers."""

import json
import random
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from recipes.demo.data import CORPORA

import triform
from triform.demo import DEMOS, MODELS, demo_for
from triform.demo.walk import Walker
from triform.inputs import pack_texts

SIZE = 8_000_000
ALL = pytest.mark.parametrize("demo", DEMOS.values(), ids=list(DEMOS))


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in MODELS.rglob("*") if path.is_file()) <= SIZE


@ALL
def test_weights_are_halves(demo: Any) -> None:
    assert {str(info.dtype) for info in triform.load(demo.folder).blueprint.tensors.values()} == {"F16"}


@ALL
def test_transformers_agrees(demo: Any) -> None:
    """Compare hidden states and logits of the example, and greedy tokens."""
    model = triform.load(demo.folder, engine="reference")
    tokenizer = transformers.AutoTokenizer.from_pretrained(demo.folder)
    kind = getattr(transformers, model.blueprint.config["architectures"][0])
    theirs = kind.from_pretrained(demo.folder, dtype=torch.float32).eval()
    encoded = tokenizer(demo.example, return_tensors="pt", return_token_type_ids=False)
    ids = encoded["input_ids"][0].tolist()
    assert ids == pack_texts(_tokenizer(demo).encode([demo.example])).ids.tolist()
    target = None
    with torch.inference_mode():
        if theirs.config.is_encoder_decoder:
            target = [theirs.config.decoder_start_token_id, *ids[:3]]
            expected = theirs(**encoded, decoder_input_ids=torch.tensor([target]))
        else:
            expected = theirs(**encoded)
        if theirs.can_generate():
            greedy = theirs.generate(**encoded, do_sample=False, num_beams=1, max_new_tokens=12)[0].tolist()
    ours = model(triform.Batch.from_ids([ids]), *([triform.Batch.from_ids([target])] if target else []))
    assert ours.logits is not None
    logits = expected.logits[0] if expected.logits.dim() == 3 else expected.logits
    scale = max(1, float(logits.abs().max()))
    np.testing.assert_allclose(ours.logits, logits.numpy(), rtol=0, atol=1e-5 * scale)
    if theirs.can_generate():
        new = model.generate(triform.Batch.from_ids([ids]), do_sample=False, max_new_tokens=12)[0]
        assert greedy[len(greedy) - len(new) :] == new


def _tokenizer(demo: Any) -> Any:
    return Walker(demo).task.tokenizer


@ALL
def test_what_is_seen_is_what_is_answered(demo: Any) -> None:
    walker = Walker(demo)
    walk = walker.walk(demo.example)
    pipeline = triform.pipeline(demo.task, demo.folder, **demo.options)
    assert walk.answer == pipeline([demo.example])[0]
    for stack in walk.stacks:
        assert all(states.shape == stack.states[0].shape for states in stack.states)
        assert len(stack.tokens) == len(stack.states[0])
    for scores in walk.scores:
        probabilities = [candidate.probability for candidate in scores.candidates]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1 + 1e-9


def test_each_task_has_one_model_at_most() -> None:
    assert len({demo.task for demo in DEMOS.values()}) == len(DEMOS)
    assert demo_for("fill-mask") is None


# What a person might type first

SAID = [
    ("I love this film.", "positive"),
    ("The food was terrible.", "negative"),
    ("I don't like it.", "negative"),
    ("Not bad at all.", "positive"),
    ("What a waste of time!", "negative"),
    ("The room was dirty but the staff were friendly.", "positive"),
    ("The train leaves at nine.", "neutral"),
    ("She is a doctor in London.", "neutral"),
]


def test_sentiment() -> None:
    demo = DEMOS["sentiment"]
    answers = triform.pipeline(demo.task, demo.folder)([text for text, _ in SAID])
    assert [answer["label"] for answer in answers] == [label for _, label in SAID]


def test_entities() -> None:
    demo = DEMOS["entities"]
    found = triform.pipeline(demo.task, demo.folder, **demo.options)("Anna Smith works for Google in New York.")
    assert [(entity["entity_group"], entity["word"]) for entity in found] == [
        ("PER", "Anna Smith"),
        ("ORG", "Google"),
        ("LOC", "New York"),
    ]


@pytest.mark.parametrize(
    ("english", "french"),
    [
        ("I love you.", "Je vous aime."),
        ("Where is the station?", "Où est la gare ?"),
        ("My cat is sleeping on the sofa.", "Mon chat dort sur le canapé."),
        ("We do not want any bread.", "Nous ne voulons pas de pain."),
    ],
)
def test_translation(english: str, french: str) -> None:
    demo = DEMOS["translation"]
    assert triform.pipeline(demo.task, demo.folder)(english)[0]["translation_text"] == french


def test_story() -> None:
    demo = DEMOS["story"]
    [story] = triform.pipeline(demo.task, demo.folder)("Once upon a time", do_sample=False)
    text = story["generated_text"]
    assert text.startswith("Once upon a time")
    assert len(text.split()) > 40
    assert text.endswith((".", '"', "!"))


# Cards


def card(name: str) -> str:
    return (DEMOS[name].folder / "README.md").read_text(encoding="utf-8")


@ALL
def test_cards_say_what_must_be_said(demo: Any) -> None:
    text = card(demo.name)
    for heading in ("Data", "Recipe", "Scores", "Limits"):
        assert f"\n## {heading}\n" in text
    stated = re.search(r"([\d.]+) M parameters", text)
    assert stated is not None
    assert float(stated[1]) == round(triform.load(demo.folder).num_parameters / 1e6, 2)


def stated_score(name: str, metric: str) -> float:
    """Read a score from the metadata of the card; the Hub reads the same metadata."""
    found = re.search(rf"type: {metric}\n\s+value: ([\d.]+)", card(name))
    assert found is not None, metric
    return float(found[1])


def held_out(name: str, number: int, tmp_path: Path) -> Path:
    """Write sentences from another seed, absent from every file of the recipe."""
    corpus = CORPORA[name]
    lines: Sequence[str] = list(islice(corpus.examples(random.Random(99), held_out=True), number))
    path = tmp_path / f"held_out.{corpus.suffix}"
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "metric", "key", "number", "tolerance"),
    [
        ("sentiment", "accuracy", "accuracy", 400, 0.04),
        ("entities", "f1", "f1", 300, 0.03),
        ("translation", "bleu", "bleu", 100, 5.0),
        ("story", "perplexity", "perplexity", 60, 0.15),
    ],
)
def test_scores_are_as_stated(name: str, metric: str, key: str, number: int, tolerance: float, tmp_path: Path) -> None:
    from triform.data import Files
    from triform.training.evaluation import evaluate

    demo = DEMOS[name]
    rows = Files(paths=[held_out(name, number, tmp_path)])
    scores = evaluate(triform.pipeline(demo.task, demo.folder), rows)
    assert scores[key] == pytest.approx(stated_score(name, metric), abs=tolerance)


def test_configs_name_no_place() -> None:
    """The files name no path of the training machine."""
    for path in MODELS.rglob("*.json"):
        assert "/" not in str(json.loads(path.read_text(encoding="utf-8")).get("_name_or_path", ""))
