"""Tasks against the pipelines of `transformers`: random weights, real tokenizers, text of all kinds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import triform
from tests import checkpoints
from tests.inputs.hard_texts import TEXTS as HARD_TEXTS
from triform.errors import InputError, TruncationWarning, WrongTaskError

TEXTS = [
    "A cat sat on the mat.",
    "Ein Kätzchen saß auf der Matte — 猫がマットの上に座った 🐈.",
    "Donaudampfschifffahrtsgesellschaftskapitän" * 3,
    "",
    "tabs\tand\nnew lines,   many   spaces",
]


def assert_same(actual: Any, expected: Any) -> None:
    """Compare texts to the last character, and numbers within 1e-5."""
    if isinstance(expected, dict):
        assert set(actual) == set(expected)
        for key in expected:
            assert_same(actual[key], expected[key])
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for one, other in zip(actual, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, str | int):
        assert actual == expected
    else:
        assert actual == pytest.approx(float(expected), abs=1e-5)


def both(task: str, folder: Path, **options: Any) -> tuple[Any, Any]:
    """Return the pipelines of Triform and of transformers."""
    return triform.pipeline(task, model=folder, **options), transformers.pipeline(task, model=str(folder), device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"top_k": 2}, {"top_k": None}, {"function_to_apply": "sigmoid"}], ids=str)
@pytest.mark.parametrize(
    "config",
    [
        {"num_labels": 4},
        {"num_labels": 1},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 1, "problem_type": "regression"},
        {"id2label": {0: "NEG", 1: "POS"}, "label2id": {"NEG": 0, "POS": 1}},
    ],
    ids=str,
)
def test_text_classification(minilm: Path, tmp_path: Path, config: dict[str, Any], options: dict[str, Any]) -> None:
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, **config)
    ours, reference = both("text-classification", folder)
    assert_same(ours(TEXTS, **options), reference(TEXTS, **options))
    assert_same(ours(TEXTS[0], **options), reference(TEXTS[0], **options))
    pairs = [{"text": TEXTS[0], "text_pair": TEXTS[1]}, {"text": TEXTS[2], "text_pair": TEXTS[4]}]
    assert_same(ours(pairs, **options), reference(pairs, **options))


def test_text_classification_by_the_last_token(tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForSequenceClassification", tmp_path, num_labels=3)
    ours, reference = both("text-classification", folder)
    assert_same(ours(TEXTS), [reference(text)[0] for text in TEXTS])


@pytest.mark.parametrize(
    "config",
    [
        {"num_labels": 4},
        {"num_labels": 1},
        {"num_labels": 3, "problem_type": "multi_label_classification"},
        {"num_labels": 1, "problem_type": "regression"},
    ],
    ids=str,
)
@pytest.mark.parametrize("family", ["bart", "t5"])
def test_text_classification_by_the_end_token(family: str, tmp_path: Path, config: dict[str, Any]) -> None:
    if family == "bart":
        checkpoints.bart("BartForSequenceClassification", tmp_path, **config)
    else:
        checkpoints.t5(tmp_path, "T5ForSequenceClassification", **config)
    ours, reference = both("text-classification", tmp_path)
    assert_same(ours(TEXTS), reference(TEXTS))
    pairs = [{"text": TEXTS[0], "text_pair": TEXTS[1]}, {"text": TEXTS[2], "text_pair": TEXTS[4]}]
    assert_same(ours(pairs, top_k=None), reference(pairs, top_k=None))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
@pytest.mark.parametrize("labels", [["O", "B-PER", "I-PER", "B-LOC", "I-LOC"], ["O", "PER", "LOC"]], ids=str)
def test_token_classification(minilm: Path, tmp_path: Path, labels: list[str], strategy: str) -> None:
    config = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    folder = checkpoints.bert("BertForTokenClassification", minilm, tmp_path, **config)
    ours, reference = both("token-classification", folder)
    expected = [reference(text, aggregation_strategy=strategy) for text in TEXTS]
    assert any(expected)
    assert_same(ours(TEXTS, aggregation_strategy=strategy), expected)
    everything = [reference(text, aggregation_strategy=strategy, ignore_labels=[]) for text in TEXTS]
    assert_same(ours(TEXTS, aggregation_strategy=strategy, ignore_labels=[]), everything)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words:UserWarning")
@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_token_classification_without_marked_subwords(tmp_path: Path, strategy: str) -> None:
    folder = checkpoints.llama("LlamaForTokenClassification", tmp_path, num_labels=3)
    ours, reference = both("token-classification", folder)
    texts = [text[:100] for text in TEXTS]
    assert_same(
        ours(texts, aggregation_strategy=strategy),
        [reference(text, aggregation_strategy=strategy) for text in texts],
    )


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_token_classification_of_words(minilm: Path, tmp_path: Path, strategy: str) -> None:
    folder = checkpoints.bert("BertForTokenClassification", minilm, tmp_path, num_labels=3)
    ours, reference = both("token-classification", folder)
    inputs = [
        ["Ada", "Lovelace", "didn't", "live", "in", "New York", "."],
        ["Donaudampfschifffahrt"],
        ["猫", "🐈", "cat"],
    ]
    options = {"aggregation_strategy": strategy, "is_split_into_words": True}
    assert_same(ours(inputs, **options), [reference(words, **options)[0] for words in inputs])
    assert_same(ours(inputs[0], **options), reference(inputs[0], **options))
    for bad, message in (
        ("a text", "^Input 1: Expected a list of one or more words, got 'a text'"),
        ([], r"^Input 1: Expected a list of one or more words, got \[\]"),
        (["a", ""], "^Input 1: Expected"),
    ):
        with pytest.raises(InputError, match=message):
            ours([["a"], bad], **options)


def test_token_classification_points_into_the_text(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForTokenClassification", minilm, tmp_path, num_labels=3)
    tag = triform.pipeline("ner", model=folder, ignore_labels=[])
    for text in TEXTS:
        for entity in tag(text):
            surface = text[entity["start"] : entity["end"]]
            assert surface.strip() == surface != ""


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_feature_extraction(minilm: Path, tmp_path: Path, kind: str) -> None:
    if kind == "bert":
        folder = checkpoints.bert("BertForTokenClassification", minilm, tmp_path)
    else:
        folder = checkpoints.llama("LlamaModel", tmp_path)
    ours, reference = both("feature-extraction", folder)
    texts = [text[:100] for text in TEXTS]
    features = ours(texts)
    assert features[0].dtype == np.float32
    assert features[0].shape[1:] == (32,)
    assert_same([feature.tolist() for feature in features], [reference(text)[0] for text in texts])
    assert_same(ours(texts[1]).tolist(), reference(texts[1])[0])


def test_fill_mask(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForMaskedLM", minilm, tmp_path)
    ours, reference = both("fill-mask", folder)
    texts = ["The [MASK] sat on the mat.", "[MASK] Kätzchen [MASK] auf 猫 🐈.", "[MASK]"]
    for text in texts:
        assert_same(ours(text), reference(text))
        assert_same(ours(text, top_k=2), reference(text, top_k=2))
    assert_same(ours(texts), [reference(text) for text in texts])
    for targets in (["cat", "dog"], "cat"):
        assert_same(ours(texts[0], targets=targets), reference(texts[0], targets=targets))
    assert_same(ours(texts[1], targets=["cat", "dog", "a"]), reference(texts[1], targets=["cat", "dog", "a"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "architecture", "options"),
    [
        ("text-classification", "BertForSequenceClassification", {"top_k": None}),
        ("zero-shot-classification", "BertForSequenceClassification", {"candidate_labels": "sport, 猫 🐈"}),
        ("token-classification", "BertForTokenClassification", {"ignore_labels": []}),
        ("token-classification", "BertForTokenClassification", {"aggregation_strategy": "average"}),
        ("fill-mask", "BertForMaskedLM", {"top_k": 3}),
    ],
    ids=str,
)
def test_hard_texts(minilm: Path, tmp_path: Path, task: str, architecture: str, options: dict[str, Any]) -> None:
    """Accents, emoji, CJK and more scripts, control characters, very long words, blanks, the empty text."""
    labels = {"contradiction": 0, "neutral": 1, "entailment": 2}
    config = {"label2id": labels, "id2label": {number: name for name, number in labels.items()}}
    ours, reference = both(task, checkpoints.bert(architecture, minilm, tmp_path, **config))
    texts = [f"{text} [MASK]" for text in HARD_TEXTS] if task == "fill-mask" else HARD_TEXTS
    if task == "zero-shot-classification":
        texts = [text for text in texts if text]
    for text in texts:
        assert_same(ours(text, **options), reference(text, **options))


def test_hard_prompts(tmp_path: Path) -> None:
    ours, reference = both("text-generation", checkpoints.llama("LlamaForCausalLM", tmp_path))
    options = {"max_new_tokens": 4, "return_full_text": False}
    for text in HARD_TEXTS:
        # The empty prompt too: the tokenizer begins with <s>.
        if len(text) < 100:
            assert ours(text, **options) == reference(text, do_sample=False, **options), text


def test_fill_mask_needs_a_gap_and_known_targets(minilm: Path, tmp_path: Path) -> None:
    fill = triform.pipeline("fill-mask", model=checkpoints.bert("BertForMaskedLM", minilm, tmp_path))
    with pytest.raises(InputError, match=r"Text 1 has no \[MASK\]: 'no gap'"):
        fill(["a [MASK]", "no gap"])
    with pytest.raises(InputError, match="not in the vocabulary: \\['qqzzqq'\\]"):
        fill("a [MASK]", targets=["cat", "qqzzqq"])


def test_text_generation(tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path)
    ours, reference = both("text-generation", folder)
    prompts = [text for text in TEXTS if text] + ["Once upon a time"]
    for full in (True, False):
        options = {"max_new_tokens": 10, "return_full_text": full}
        expected = [reference(prompt, do_sample=False, **options) for prompt in prompts]
        assert ours(prompts, **options) == expected
        assert ours(prompts[0], **options) == expected[0]


def test_text_generation_settings(tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path)
    ours, reference = both("text-generation", folder)
    prompts = ["Once upon a time", "A cat"]
    options = {"max_new_tokens": 8, "num_beams": 3, "num_return_sequences": 2}
    assert ours(prompts, **options) == [reference(prompt, do_sample=False, **options) for prompt in prompts]
    drawn = ours(prompts, do_sample=True, seed=1, max_new_tokens=8)
    assert drawn == [ours(prompt, do_sample=True, seed=1, max_new_tokens=8) for prompt in prompts]
    with pytest.raises(InputError, match="temperature=0: expected a number greater than 0"):
        ours(prompts, do_sample=True, temperature=0)


def test_text_generation_with_details(tmp_path: Path) -> None:
    generate: Any = triform.pipeline("text-generation", model=checkpoints.llama("LlamaForCausalLM", tmp_path))
    [plain] = generate("A cat", max_new_tokens=6)
    [answer] = generate("A cat", max_new_tokens=6, details=True)
    assert set(plain) == {"generated_text"}
    assert answer["generated_text"] == plain["generated_text"]
    assert answer["finish_reason"] == "length"
    model = generate.model
    ids = generate.tokenizer.encode(["A cat"])[0].ids.tolist()
    expected = list(model.stream(triform.Batch.from_ids([ids]), max_new_tokens=6, log_probabilities=True))
    assert [token["id"] for token in answer["tokens"]] == [token.id for token in expected]
    assert [token["log_probability"] for token in answer["tokens"]] == [token.log_probability for token in expected]
    stop = plain["generated_text"][-2:]
    [stopped] = generate("A cat", max_new_tokens=50, details=True, stop=stop)
    assert stopped["finish_reason"] == "stop"


def test_any_setting_of_generation(tmp_path: Path) -> None:
    generate = triform.pipeline("text-generation", model=checkpoints.llama("LlamaForCausalLM", tmp_path))
    [answer] = generate("A cat", max_new_tokens=6, details=True)
    banned = [token["id"] for token in answer["tokens"]]
    [other] = generate("A cat", max_new_tokens=6, details=True, generate_kwargs={"suppress_tokens": banned})
    assert not set(banned) & {token["id"] for token in other["tokens"]}
    with pytest.raises(InputError, match="generate_kwargs: generate has no setting supress_tokens"):
        generate("A cat", generate_kwargs={"supress_tokens": banned})
    with pytest.raises(InputError, match="generate_kwargs: max_new_tokens is also an option, max_new_tokens=6"):
        generate("A cat", max_new_tokens=6, generate_kwargs={"max_new_tokens": 7})


def test_text_generation_stops_before_a_text(tmp_path: Path) -> None:
    generate = triform.pipeline("text-generation", model=checkpoints.llama("LlamaForCausalLM", tmp_path))
    options = {"max_new_tokens": 10, "return_full_text": False}
    added = generate("A cat", **options)[0]["generated_text"]
    stops = [added[6:8], added[4:6], "never said"]
    assert generate("A cat", stop=stops, **options)[0]["generated_text"] == added[: min(map(added.find, stops[:2]))]
    assert generate("A cat", stop=added[4:6], **options)[0]["generated_text"] == added[: added.find(added[4:6])]
    assert generate("A cat", stop=["never said"], **options)[0]["generated_text"] == added


def test_translation(tmp_path: Path) -> None:
    prefixes = {
        f"translation_en_to_{code}": {"prefix": f"translate English to {name}: "}
        for code, name in (("de", "German"), ("fr", "French"))
    }
    folder = checkpoints.t5(tmp_path, task_specific_params=prefixes)
    model = transformers.T5ForConditionalGeneration.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    translate = triform.pipeline("translation_en_to_de", model=folder, max_new_tokens=12)
    texts = ["The house is wonderful.", "A cat sat."]
    expected = []
    for text in texts:
        ids = tokenizer("translate English to German: " + text, return_tensors="pt")
        ids.pop("token_type_ids", None)
        with torch.no_grad():
            generated = model.generate(**ids, max_new_tokens=12, do_sample=False)[0]
        expected.append({"translation_text": tokenizer.decode(generated, skip_special_tokens=True)})
    assert translate(texts) == expected
    assert translate(texts[0]) == expected[:1]
    assert translate(texts, num_beams=1, do_sample=False) == expected
    assert len(translate(texts, num_beams=3, length_penalty=0.5)) == 2
    same = triform.pipeline("translation", model=folder, max_new_tokens=12)
    assert same(texts, src_lang="en", tgt_lang="de") == expected
    assert same(texts, prefix="translate English to German: ") == expected
    with pytest.raises(InputError, match="the model names en to de, en to fr"):
        same(texts)


def test_summarization_and_text2text_generation(tmp_path: Path) -> None:
    params = {"summarization": {"prefix": "summarize: ", "num_beams": 4, "early_stopping": True, "min_length": 9}}
    folder = checkpoints.t5(tmp_path, task_specific_params=params)
    answer = triform.pipeline("text2text-generation", model=folder, max_new_tokens=12)
    texts = ["The house is wonderful.", "A cat sat."]
    summarize = triform.pipeline("summarization", model=folder, max_new_tokens=12)
    # The settings of the caller override the task settings of the config.
    beams = [text["summary_text"] for text in summarize(texts, min_new_tokens=0)]
    assert beams == [text["generated_text"] for text in answer(["summarize: " + text for text in texts], num_beams=4)]
    greedy = [text["summary_text"] for text in summarize(texts, num_beams=1, min_new_tokens=0)]
    assert greedy == [text["generated_text"] for text in answer(["summarize: " + text for text in texts])]
    assert greedy != [text["generated_text"] for text in answer(texts)]
    assert summarize(texts[0], min_new_tokens=0) == [{"summary_text": beams[0]}]
    assert [len(found) for found in summarize(texts, num_return_sequences=3)] == [3, 3]
    with pytest.raises(InputError, match="summarization: expected a text, got 3"):
        summarize([3])


def test_a_model_without_the_head_is_refused(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForTokenClassification", minilm, tmp_path)
    with pytest.raises(WrongTaskError, match=r"Encoder with TokenHead .* needs .* with SequenceHead"):
        triform.pipeline("text-classification", model=folder)
    with pytest.raises(WrongTaskError, match="generate needs a decoder with a language head"):
        triform.load(folder).generate(triform.Batch.from_ids([[1, 2]]))


def test_options_are_checked(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForTokenClassification", minilm, tmp_path)
    with pytest.raises(InputError, match="Task 'nre' is not known"):
        triform.pipeline("nre", model=folder)
    with pytest.raises(InputError, match=r"token-classification has no option topk. It has .*aggregation_strategy"):
        triform.pipeline("ner", model=folder, topk=3)
    with pytest.raises(InputError, match="token-classification has no option tokenizer"):
        triform.pipeline("ner", model=folder, tokenizer=folder)
    with pytest.raises(InputError, match="aggregation_strategy='all': expected one of none, simple"):
        triform.pipeline("ner", model=folder)("text", aggregation_strategy="all")
    with pytest.raises(InputError, match="expected text, a list or an iterable of texts, got int"):
        triform.pipeline("ner", model=folder)(3)
    with pytest.raises(InputError, match="Text 1: expected a string"):
        triform.pipeline("ner", model=folder)(["text", 3])


def test_long_pairs_keep_their_segments(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, num_labels=3)
    ours, reference = both("text-classification", folder, long_input="truncate")
    pairs = [{"text": "one " * 40, "text_pair": "two " * 200}, {"text": "one " * 200, "text_pair": "two " * 99}]
    options = {"truncation": True, "max_length": 128}
    with pytest.warns(TruncationWarning, match="2 of 2 texts were longer than 128 tokens"):
        actual = ours(pairs)
    assert [answer.pop("dropped_tokens") for answer in actual] == [115, 174]
    assert_same(actual, reference(pairs, **options))


def test_options_of_other_pipelines_are_told_their_names_here(minilm: Path) -> None:
    with pytest.raises(
        InputError, match=r"has no option truncation\. For truncation take long_input=\"truncate\"\. It"
    ):
        triform.pipeline("sentence-embedding", model=minilm, truncation=True)
    with pytest.raises(InputError, match="has no option batch_size, tempo. For batch_size take token_budget"):
        triform.pipeline("sentence-embedding", model=minilm)("a", batch_size=8, tempo=1)
