"""Models that read texts as messages of a chat template, against sentence-transformers on the same checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers

import triform
from tests import checkpoints
from triform.errors import InputError, TokenizerError, UnsupportedModelError

TEXTS = ["The house", "a cat by the sea"]
PAIR = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
PARTS = (
    "{% for m in messages %}[{{ m.role }}]{% for p in m.content %}{{ p['type'] }}{{ p.text }}{% endfor %}{% endfor %}"
)
USER = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
STRICT = (
    "{% for m in messages %}{% if m.role == 'document' %}{{ raise_exception('no documents') }}{% endif %}{% endfor %}"
)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def scores(folder: Path, **options: Any) -> list[float]:
    found = triform.pipeline("text-ranking", folder, **options)({"query": "Who?", "documents": TEXTS})
    return [each["score"] for each in sorted(found, key=lambda each: each["index"])]


def compare(folder: Path) -> None:
    reference = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    expected = reference.predict([("Who?", text) for text in TEXTS]).tolist()
    assert scores(folder) == pytest.approx(expected, abs=1e-5)


def reranker(folder: Path, template: str | None) -> Path:
    return checkpoints.llama("LlamaForSequenceClassification", folder, template, num_labels=1)


@pytest.mark.parametrize("template", [None, PAIR, PARTS])
def test_a_pair_is_rendered_with_the_roles_of_the_reference(tmp_path: Path, template: str | None) -> None:
    folder = reranker(tmp_path / "plain", template)
    compare(folder)
    sentence_transformers.CrossEncoder(str(folder), device="cpu").save_pretrained(str(tmp_path / "saved"))
    compare(tmp_path / "saved")


def test_the_settings_of_messages_are_followed(tmp_path: Path) -> None:
    sentence_transformers.CrossEncoder(str(reranker(tmp_path / "plain", PAIR)), device="cpu").save_pretrained(
        str(tmp_path / "saved")
    )
    file = tmp_path / "saved" / "sentence_bert_config.json"
    before = scores(tmp_path / "saved")
    edit(file, processing_kwargs={"chat_template": {"add_generation_prompt": True}})
    compare(tmp_path / "saved")
    assert scores(tmp_path / "saved") != before
    text = {"method": "forward", "method_output_name": "logits"}
    message = {**text, "format": "structured"}
    edit(file, modality_config={"text": text, "message": message})
    compare(tmp_path / "saved")
    edit(file, modality_config={"text": text})
    compare(tmp_path / "saved")
    edit(file, modality_config={"text": text, "message": {**message, "format": "other"}})
    with pytest.raises(UnsupportedModelError, match="format is 'other'; expected auto or flat or structured"):
        scores(tmp_path / "saved")
    edit(file, modality_config={"message": message})
    with pytest.raises(UnsupportedModelError, match="modality_config is .*; expected text = "):
        scores(tmp_path / "saved")
    edit(file, modality_config={"text": text, "message": message}, processing_kwargs={"chat_template": {"tools": []}})
    with pytest.raises(UnsupportedModelError, match="chat_template: Triform does not know these keys"):
        scores(tmp_path / "saved")
    edit(file, processing_kwargs={})
    (tmp_path / "saved" / "chat_template.jinja").unlink()
    with pytest.raises(TokenizerError, match="has no chat template"):
        scores(tmp_path / "saved")


@pytest.mark.parametrize(("template", "reason"), [(USER, "query and document is not"), (STRICT, "no documents")])
def test_a_template_without_the_roles_of_a_pair_is_refused(tmp_path: Path, template: str, reason: str) -> None:
    folder = reranker(tmp_path, template)
    with pytest.raises(ValueError, match="query"):
        sentence_transformers.CrossEncoder(str(folder), device="cpu").predict([("Who?", "a")])
    with pytest.raises(UnsupportedModelError, match=rf"template for the roles query and document: .*{reason}"):
        scores(folder)


def test_a_long_pair_in_a_template_is_refused(tmp_path: Path) -> None:
    folder = reranker(tmp_path, PAIR)
    rank = triform.pipeline("text-ranking", folder, long_input="truncate")
    with pytest.raises(InputError, match=r"Text 0 has \d+ tokens as a message of the chat template, more than the 128"):
        rank({"query": "a", "documents": ["b c d " * 200]})
    answer = rank({"query": "a", "documents": TEXTS}, return_documents=True)
    assert {found["text"] for found in answer} == set(TEXTS)


@pytest.mark.parametrize("template", [None, PAIR, PARTS, USER])
def test_an_embedding_of_a_folder_without_modules_reads_messages(tmp_path: Path, template: str | None) -> None:
    folder = checkpoints.llama("LlamaModel", tmp_path, template)
    reference = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    embed = triform.pipeline("sentence-embedding", folder)
    np.testing.assert_allclose(embed(TEXTS), reference.encode(TEXTS), atol=2e-5)
    prompted = reference.encode(TEXTS, prompt="Find: ")
    np.testing.assert_allclose(embed(TEXTS, prompt="Find: "), prompted, atol=2e-5)


@pytest.mark.parametrize("include_prompt", [True, False])
def test_an_embedding_follows_modality_config(tmp_path: Path, include_prompt: bool) -> None:
    checkpoints.llama("LlamaModel", tmp_path / "plain", PAIR)
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    edit(tmp_path / "saved" / "1_Pooling" / "config.json", include_prompt=include_prompt)
    for messages in (True, False):
        if not messages:
            file = tmp_path / "saved" / "sentence_bert_config.json"
            file.write_text('{"max_seq_length": 60}')
        reference = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
        embed = triform.pipeline("sentence-embedding", tmp_path / "saved")
        for prompt in (None, "Find: "):
            expected = reference.encode(TEXTS, prompt=prompt)
            np.testing.assert_allclose(embed(TEXTS, prompt=prompt), expected, atol=2e-5)
