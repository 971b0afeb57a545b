"""Settings of the tokenizer in answers of whole pipelines, beside transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import triform
from tests.checkpoints import bert, t5
from tests.inputs.hard_texts import write_json
from triform.errors import UnsupportedModelError
from triform.inputs import Tokenizer


def change(folder: Path, **settings: Any) -> None:
    path = folder / "tokenizer_config.json"
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **settings})


ADDED = {"content": "<E>", "special": True, "normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
FORMS: list[dict[str, Any]] = [
    {"added_tokens_decoder": {"30522": ADDED}},
    {"additional_special_tokens": ["<E>"]},
    {"extra_special_tokens": ["<E>"]},
    {"extra_special_tokens": {"entity_token": "<E>"}},
    {"entity_token": "<E>"},
    {},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: next(iter(form), "added_tokens.json"))
def test_a_classifier_sees_tokens_that_any_file_adds(minilm: Path, tmp_path: Path, form: dict[str, Any]) -> None:
    folder = bert("BertForSequenceClassification", minilm, tmp_path, vocab_size=30523)
    change(folder, **form)
    if not form:
        write_json(folder / "added_tokens.json", {"<E>": 30522})
    text = "the <E> cat <E> a"
    inputs = transformers.AutoTokenizer.from_pretrained(str(folder))(text, return_tensors="pt")
    assert inputs["input_ids"][0].tolist().count(30522) == 2
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = torch.softmax(model(**inputs).logits[0], -1).tolist()
    answers = triform.pipeline("text-classification", folder, top_k=None)(text)
    assert sorted(answer["score"] for answer in answers) == pytest.approx(sorted(expected), abs=1e-5)


@pytest.mark.parametrize("text", ["the cat ' s [MASK] .", "a , b ? [MASK] !"])
def test_spaces_are_cleaned_up_where_a_gap_is_filled(minilm: Path, tmp_path: Path, text: str) -> None:
    folder = bert("BertForMaskedLM", minilm, tmp_path)
    change(folder, clean_up_tokenization_spaces=True)
    expected = transformers.pipeline("fill-mask", str(folder), top_k=3)(text)
    answers = triform.pipeline("fill-mask", folder, top_k=3)(text)
    assert [answer["sequence"] for answer in answers] == [answer["sequence"] for answer in expected]


def test_a_translation_keeps_its_spaces(tmp_path: Path) -> None:
    """The pipelines of transformers 4 for this task turn the clean-up off."""
    folder = t5(tmp_path)
    plain = triform.pipeline("text2text-generation", folder)("the cat , the dog .")
    change(folder, clean_up_tokenization_spaces=True)
    task = triform.pipeline("text2text-generation", folder)
    assert task("the cat , the dog .") == plain
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
    ids = theirs("the cat , the dog .")["input_ids"]
    assert Tokenizer.from_checkpoint(task.model.checkpoint).decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_a_second_text_has_no_type_where_the_settings_leave_types_out(minilm: Path, tmp_path: Path) -> None:
    folder = bert("BertForSequenceClassification", minilm, tmp_path)
    change(folder, model_input_names=["input_ids", "attention_mask"])
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = transformers.AutoTokenizer.from_pretrained(str(folder))("a cat", "a dog", return_tensors="pt")
    with torch.no_grad():
        expected = torch.softmax(model(**inputs).logits[0], -1).tolist()
    answers = triform.pipeline("text-classification", folder, top_k=None)({"text": "a cat", "text_pair": "a dog"})
    assert sorted(answer["score"] for answer in answers) == pytest.approx(sorted(expected), abs=1e-5)


def test_an_unknown_key_is_refused(minilm: Path, tmp_path: Path) -> None:
    folder = bert("BertForMaskedLM", minilm, tmp_path)
    change(folder, do_upper_case=True)
    with pytest.raises(
        UnsupportedModelError, match=r"tokenizer_config.json: Triform does not know .*\n  do_upper_case = True"
    ):
        triform.pipeline("fill-mask", folder)
