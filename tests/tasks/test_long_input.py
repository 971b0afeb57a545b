"""Text beyond the context of the model: in windows, refused, or truncated with a warning."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import triform
from tests import checkpoints
from tests.tasks.test_pipelines import TEXTS, assert_same
from triform.bulk.formats import as_text
from triform.errors import InputError, TruncationWarning

LIMIT = 128
"""Context of the models here in tokens, [CLS] and [SEP] included."""
LONG = " ".join(text for text in TEXTS if text) * 14
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture(scope="module")
def tagger(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {"id2label": dict(enumerate(LABELS)), "label2id": {label: i for i, label in enumerate(LABELS)}}
    return checkpoints.bert("BertForTokenClassification", minilm, tmp_path_factory.mktemp("tags"), **config)


def windowed(folder: Path, kind: str, text: str, stride: int) -> tuple[Any, torch.Tensor]:
    """Encode the whole text, and take logits of `transformers` per token from the window with the most context."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    whole = tokenizer(text, return_offsets_mapping=True, verbose=False)
    inner = whole["input_ids"][1:-1]
    room = LIMIT - 2
    rows: list[Any] = [None] * len(whole["input_ids"])
    seen = [-1.0] * len(rows)
    for begin in range(0, len(inner) - stride, room - stride):
        ids = [whole["input_ids"][0], *inner[begin : begin + room], whole["input_ids"][-1]]
        with torch.no_grad():
            output = model(torch.tensor([ids]))[0][0]
        is_first, is_last = begin == 0, begin + room >= len(inner)
        for place in range(len(ids)):
            around = min(np.inf if is_first else place - 1, np.inf if is_last else len(ids) - 2 - place)
            row = place + begin if place < len(ids) - 1 else len(rows) - 1
            if around > seen[row] and (0 < place < len(ids) - 1 or (is_first and place == 0) or is_last):
                rows[row], seen[row] = output[place], around
    return whole, torch.stack(rows)


@pytest.mark.parametrize("stride", [0, 31, 100])
def test_every_token_is_tagged_where_most_of_its_context_is_seen(tagger: Path, stride: int) -> None:
    whole, logits = windowed(tagger, "BertForTokenClassification", LONG, stride)
    assert len(whole["input_ids"]) > 4 * LIMIT
    scores, labels = torch.softmax(logits, dim=-1).max(dim=-1)
    expected = [
        {"entity": LABELS[labels[index]], "score": float(scores[index]), "index": index, "start": start, "end": end}
        for index, (start, end) in enumerate(whole["offset_mapping"])
        if 0 < index < len(logits) - 1
    ]
    tag = triform.pipeline("ner", model=tagger, ignore_labels=[], token_budget=200)
    found = tag(LONG, stride=stride)
    words = [entity.pop("word") for entity in found]
    assert_same(found, expected)
    assert words[0] == "a"
    assert_same(tag([TEXTS[0], LONG, TEXTS[1]], stride=stride)[1], tag(LONG, stride=stride))


def test_what_fits_is_the_same_with_windows_and_without(tagger: Path) -> None:
    tag = triform.pipeline("ner", model=tagger, aggregation_strategy="simple")
    texts = [text[:100] for text in TEXTS]
    assert tag(texts, stride=5) == tag(texts, long_input="error")


@pytest.mark.parametrize("strategy", ["simple", "first", "average", "max"])
def test_entities_are_whole_across_borders(tagger: Path, strategy: str) -> None:
    """Triform groups tokens once, over the whole text; transformers groups per window and then chooses."""
    stride = 40
    tag = triform.pipeline("ner", model=tagger, ignore_labels=[], stride=stride)
    reference = transformers.pipeline("ner", model=str(tagger), device="cpu", ignore_labels=[])
    reference.tokenizer.model_max_length = LIMIT
    found = tag(LONG, aggregation_strategy=strategy)
    # Every character of a token is in one entity, in order.
    assert all(one["end"] <= other["start"] for one, other in itertools.pairwise(found))
    tokens = tag(LONG)
    assert {token["start"] for token in tokens} >= {one["start"] for one in found}
    assert tokens[-1]["end"] == found[-1]["end"]
    # Away from the overlaps both agree.
    spans = [(token["start"], token["end"]) for token in tokens]
    shared = [spans[begin : begin + stride] for begin in range(LIMIT - 2 - stride, len(spans), LIMIT - 2 - stride)]

    def alone(entities: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            one for one in entities if all(one["end"] < part[0][0] or part[-1][1] < one["start"] for part in shared)
        ]

    expected = alone(reference(LONG, aggregation_strategy=strategy, stride=stride))
    assert len(expected) > 20
    assert_same(alone(found), expected)


def test_features_of_long_text(tagger: Path) -> None:
    extract = triform.pipeline("feature-extraction", model=tagger)
    with pytest.raises(InputError, match='tokens, more than the 128 that fit.*long_input="window"'):
        extract(LONG)
    whole, states = windowed(tagger, "BertModel", LONG, 30)
    features = extract(LONG, long_input="window", stride=30)
    assert features.shape == (len(whole["input_ids"]), 32)
    assert_same(features.tolist(), states.tolist())


def test_gaps_of_long_text(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForMaskedLM", minilm, tmp_path)
    fill = triform.pipeline("fill-mask", model=folder, top_k=2)
    text = "The [MASK] sat. " + "one two three " * 60 + "[MASK] end"
    first, second = fill(text)
    # "one two three" in the middle is in a window of no gap.
    assert_same(fill(text, token_budget=1), [first, second])
    # Each gap is seen in one window, with as much around it as fits.
    assert [one["token"] for one in first] == [one["token"] for one in fill(text[: text.index("[MASK] end")])]
    assert all(text[16:-10] in one["sequence"] for one in (*first, *second))
    whole, logits = windowed(folder, "BertForMaskedLM", text, 63)
    gap = whole["input_ids"].index(103, 10)
    best = torch.softmax(logits[gap], dim=-1).topk(2)
    assert [one["token"] for one in second] == best.indices.tolist()
    assert [one["score"] for one in second] == pytest.approx(best.values.tolist(), abs=1e-5)
    with pytest.raises(InputError, match="more than the 128 that fit"):
        fill(text, long_input="error")


@pytest.mark.parametrize("task", ["ner", "feature-extraction", "text-classification", "sentence-embedding"])
def test_each_task_names_the_policies_it_takes(minilm: Path, tagger: Path, tmp_path: Path, task: str) -> None:
    folder = tagger
    if task == "text-classification":
        folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path)
    refused, taken = ("truncate", "window") if task in ("ner", "feature-extraction") else ("window", "truncate")
    with pytest.raises(InputError, match=f"long_input='{refused}': expected one of .*{taken}"):
        triform.pipeline(task, model=folder, long_input=refused)


@pytest.mark.filterwarnings("ignore:.*tokens were not read")
def test_the_answer_says_what_was_dropped(minilm: Path, tmp_path: Path) -> None:
    sequence = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "nli", label2id={"entailment": 0})
    options = {"long_input": "truncate"}
    one = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "one", num_labels=1)
    rank = triform.pipeline("text-ranking", model=one, **options)
    found = rank({"query": "a", "documents": ["b", "b " * 130]})
    assert {answer["index"]: answer.get("dropped_tokens") for answer in found} == {0: None, 1: 6}
    classify = triform.pipeline("text-classification", model=sequence, **options)
    assert [answer.get("dropped_tokens") for answer in classify(["a " * 130, "a"])] == [4, None]
    found = classify("a " * 130, top_k=None)
    assert [answer["dropped_tokens"] for answer in found] == [4, 4]
    assert as_text(found[0]).endswith("  (4 tokens dropped)")


@pytest.mark.filterwarnings("ignore:.*tokens were not read")
def test_zero_shot_cuts_the_text_and_never_a_label(minilm: Path, tmp_path: Path) -> None:
    names = {"contradiction": 0, "neutral": 1, "entailment": 2}
    config = {"label2id": names, "id2label": {number: name for name, number in names.items()}}
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, **config)
    classify: Any = triform.pipeline("zero-shot-classification", model=folder, long_input="truncate")
    reference = transformers.pipeline("zero-shot-classification", model=str(folder), device="cpu")
    reference.tokenizer.model_max_length = LIMIT
    labels = ["sport", "a label of many words " * 12]
    found = classify("one " * 200, labels)
    # [CLS] text [SEP] this example is … . [SEP]: the longest hypothesis leaves the least room.
    assert found.pop("dropped_tokens") == 200 - (LIMIT - 3 - 4 - 5 * 12)
    assert_same(found, reference("one " * 200, candidate_labels=labels))
    with pytest.raises(InputError, match="leave no room for the first text .* Shorten the second text"):
        classify("one " * 200, ["label " * 200])


@pytest.mark.filterwarnings("ignore:.*tokens were not read")
def test_what_an_encoder_decoder_reads_is_cut_at_its_end(tmp_path: Path) -> None:
    folder = checkpoints.t5(tmp_path)
    settings = folder / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"model_max_length": 20}))
    answer = triform.pipeline("text2text-generation", model=folder, long_input="truncate", max_new_tokens=4)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "It was the best of times, it was the worst of times"
    ids = tokenizer(text, verbose=False)["input_ids"]
    [found] = answer(text)
    assert found.pop("dropped_tokens") == len(ids) - 20
    assert [found] == answer(tokenizer.decode(ids[:19]))


@pytest.mark.filterwarnings("ignore:.*tokens were not read")
def test_a_prompt_is_cut_at_its_beginning(tmp_path: Path) -> None:
    folder = checkpoints.llama("LlamaForCausalLM", tmp_path)
    generate = triform.pipeline("text-generation", model=folder, long_input="truncate", return_full_text=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    text = "Once upon a time there was a cat. " * 30
    ids = tokenizer(text, verbose=False)["input_ids"]
    [answer] = generate(text, max_new_tokens=8)
    assert answer["dropped_tokens"] == len(ids) - (LIMIT - 8)
    kept = [ids[0], *ids[len(ids) - (LIMIT - 8) + 1 :]]
    assert answer["generated_text"] == generate(tokenizer.decode(kept[1:]), max_new_tokens=8)[0]["generated_text"]
    [unnamed] = generate(text)
    assert unnamed["dropped_tokens"] == len(ids) - LIMIT // 2
    with pytest.raises(InputError, match="more than the 128 that fit"):
        generate(text, long_input="error")


def test_tokenizer_config_says_where_to_cut(minilm: Path, tmp_path: Path) -> None:
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path, num_labels=3)
    settings = folder / "tokenizer_config.json"
    settings.write_text(settings.read_text().rstrip()[:-1] + ', "truncation_side": "left"}')
    ours = triform.pipeline("text-classification", model=folder, long_input="truncate")
    reference = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    text = "one two three " * 60 + "end"
    with pytest.warns(TruncationWarning, match="55 tokens were not read"):
        [found] = ours(text)
    assert found.pop("dropped_tokens") == 55
    assert_same([found], reference(text, truncation=True, max_length=LIMIT))


@pytest.mark.parametrize("side", ["right", "left"])
def test_two_enormous_texts_of_a_pair_take_bounded_memory(side: str, minilm: Path, tmp_path: Path) -> None:
    """The library keeps what a cut leaves over, and of a pair each piece beside each other one."""
    folder = checkpoints.bert("BertForSequenceClassification", minilm, tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "truncation_side": side}))
    classify = triform.pipeline("text-classification", folder, long_input="truncate", top_k=None)
    pair = {"text": "the cat " * 50_000, "text_pair": "a house " * 50_000}
    if side == "left":
        with pytest.raises(InputError, match="too long to be cut at the left"):
            classify(pair)
        return
    with pytest.warns(TruncationWarning):
        answer, short = (classify({key: text[:length] for key, text in pair.items()}) for length in (None, 20_000))
    assert [{**each, "dropped_tokens": 0} for each in answer] == [{**each, "dropped_tokens": 0} for each in short]
