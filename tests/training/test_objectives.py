"""Each objective beside transformers or sentence-transformers: the input of the model, and the loss."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

import triform
from tests import checkpoints
from triform import spec
from triform.data import Row
from triform.errors import InputError, TokenizerError, WrongTaskError
from triform.inputs import Tokenizer
from triform.model import Model, NewHead, load_for_training
from triform.model.trainable import trainable_parameters
from triform.training.objective import Loss, Objective
from triform.training.objectives import find_objective

TEXTS = ["A cat sat on the mat, unbelievably.", "Rain.", "Transformers read whole sentences at once, end to end."]
LONG = " ".join(TEXTS * 30)


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(own, f"data.jsonl, line {number}") for number, own in enumerate(values, 1)]


def make(name: str, model: Model, **settings: Any) -> Any:
    kind = find_objective(name)
    return kind(model, Tokenizer.from_checkpoint(model.checkpoint), kind.settings_type(**settings))


def loss_of(objective: Objective[Any], model: Model, given: Sequence[Row], seed: int = 0) -> Loss:
    examples = [example for row in given for example in objective.examples(row)]
    loss = objective.loss(model, examples, np.random.default_rng(seed))
    loss.total.backward()
    assert any(own.grad is not None and own.grad.any() for own in trainable_parameters(model).values())
    return loss


class Recorder:
    """A wrapper records the arguments of the network."""

    def __init__(self, model: Model) -> None:
        self._network: Any = model.network
        self.calls: list[tuple[tuple[triform.Batch, ...], Any]] = []
        model.network = self  # type: ignore[assignment]

    def __call__(self, *batches: triform.Batch, logits_at: Any = None) -> Any:
        copies = tuple(replace(batch, ids=batch.ids.copy()) for batch in batches)
        self.calls.append((copies, logits_at))
        return self._network(*batches, logits_at=logits_at)


def reference(kind: str, folder: Path) -> Any:
    model = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def of_sequences(batch: triform.Batch) -> list[dict[str, torch.Tensor]]:
    """Return the arguments of transformers for each sequence alone."""
    return [
        {
            "input_ids": torch.tensor([batch.ids[begin:end].tolist()]),
            "token_type_ids": torch.tensor([batch.token_type_ids[begin:end].tolist()]),
        }
        for begin, end in batch.spans.pairs()
    ]


class TestMaskedLM:
    @pytest.fixture
    def folder(self, minilm: Path, tmp_path: Path) -> Path:
        return checkpoints.bert("BertForMaskedLM", minilm, tmp_path)

    def test_loss(self, folder: Path) -> None:
        model = load_for_training(folder)
        objective, recorder = make("masked-lm", model, mask_rate=0.4), Recorder(model)
        given = rows(*({"text": text} for text in TEXTS))
        loss = loss_of(objective, model, given)
        [([batch], hidden)] = recorder.calls
        true = triform.Batch.from_ids([example.ids.tolist() for row in given for example in objective.examples(row)])
        labels = np.full(len(batch.ids), -100)
        labels[hidden] = true.ids[hidden]
        total, theirs = 0.0, reference("BertForMaskedLM", folder)
        for (begin, end), arguments in zip(batch.spans.pairs(), of_sequences(batch), strict=True):
            if (labels[begin:end] >= 0).any():
                own = theirs(**arguments, labels=torch.tensor([labels[begin:end].tolist()]))
                total += own.loss.item() * (labels[begin:end] >= 0).sum()
        assert loss.num_targets == len(hidden) > 0
        assert loss.total.item() == pytest.approx(total, rel=1e-5)
        assert (batch.ids == true.ids)[np.setdiff1d(np.arange(len(labels)), hidden)].all()

    @pytest.mark.slow
    @pytest.mark.parametrize("whole_words", [True, False])
    def test_what_is_hidden(self, folder: Path, whole_words: bool) -> None:
        model = load_for_training(folder)
        objective, recorder = make("masked-lm", model, whole_words=whole_words), Recorder(model)
        [row] = rows({"text": " ".join(TEXTS * 4)})
        [example] = objective.examples(row)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        encoding = tokenizer(row.values["text"])
        counts: Counter[str] = Counter()
        torn = 0
        for seed in range(60):
            objective.loss(model, [example] * 10, np.random.default_rng(seed))
            [batch], hidden = recorder.calls[-1]
            true = np.tile(example.ids, 10)
            counts["chosen"] += len(hidden)
            counts["mask"] += int((batch.ids[hidden] == tokenizer.mask_token_id).sum())
            counts["same"] += int((batch.ids[hidden] == true[hidden]).sum())
            chosen = np.isin(np.arange(len(true)), hidden).reshape(10, -1)
            assert not chosen[:, [0, -1]].any()
            words = np.array([-1 if word is None else word for word in encoding.word_ids()])
            torn += sum(len(set(own[words == word].tolist())) > 1 for own in chosen for word in range(words.max() + 1))
        total = 600 * (len(example.ids) - 2)
        assert counts["chosen"] / total == pytest.approx(0.15, abs=0.01)
        assert counts["mask"] / counts["chosen"] == pytest.approx(0.8, abs=0.02)
        assert counts["same"] / counts["chosen"] == pytest.approx(0.1, abs=0.02)
        assert (torn == 0) == whole_words

    def test_a_long_text_is_read_in_parts(self, folder: Path) -> None:
        model = load_for_training(folder)
        objective = make("masked-lm", model, max_length=20)
        parts = objective.examples(*rows({"text": LONG}))
        whole = Tokenizer.from_checkpoint(model.checkpoint).encode([LONG])[0].ids
        assert max(map(objective.num_tokens, parts)) == 20
        assert np.concatenate([part.ids[1:-1] for part in parts]).tolist() == whole[1:-1].tolist()

    def test_nothing_hidden_costs_nothing(self, folder: Path) -> None:
        model = load_for_training(folder)
        objective = make("masked-lm", model, mask_rate=0.0)
        loss = objective.loss(model, objective.examples(*rows({"text": "Rain."})), np.random.default_rng(0))
        loss.total.backward()
        assert (loss.total.item(), loss.num_targets) == (0, 0)

    def test_a_tokenizer_without_a_mask(self, tmp_path: Path) -> None:
        model = load_for_training(checkpoints.llama("LlamaForCausalLM", tmp_path))
        with pytest.raises(TokenizerError, match="no mask_token"):
            make("masked-lm", model)
        with pytest.raises(InputError, match="mask_rate=15"):
            make("masked-lm", model, mask_rate=15)


class TestCausalLM:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return checkpoints.llama("LlamaForCausalLM", tmp_path)

    def test_loss(self, folder: Path) -> None:
        model = load_for_training(folder)
        objective = make("causal-lm", model)
        given = rows(*({"text": text} for text in TEXTS))
        loss = loss_of(objective, model, given)
        theirs, tokenizer = reference("LlamaForCausalLM", folder), transformers.AutoTokenizer.from_pretrained(folder)
        total = targets = 0
        for text in TEXTS:
            ids = torch.tensor([[*tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
            total += theirs(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            targets += ids.shape[1] - 1
        assert loss.num_targets == targets
        assert loss.total.item() == pytest.approx(total, rel=1e-5)

    def test_each_token_of_a_long_document_is_said_once(self, folder: Path) -> None:
        model = load_for_training(folder)
        objective = make("causal-lm", model, max_length=16)
        parts = objective.examples(*rows({"text": LONG}))
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        ids = [*tokenizer(LONG)["input_ids"], tokenizer.eos_token_id]
        assert max(map(objective.num_tokens, parts)) == 16
        assert np.concatenate([part.ids[1:] for part in parts]).tolist() == ids[1:]
        assert all(first.ids[-1] == second.ids[0] for first, second in pairwise(parts))


class TestSeq2Seq:
    ROWS = rows(
        {"source": "The house is wonderful.", "target": "Das Haus ist wunderbar."},
        {"source": "A cat.", "target": "Die Katze schläft auf der Matte."},
    )

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    @pytest.mark.parametrize("family", ["t5", "bart"])
    def test_loss(self, family: str, smoothing: float, tmp_path: Path) -> None:
        kind = {"t5": "T5ForConditionalGeneration", "bart": "BartForConditionalGeneration"}[family]
        folder = checkpoints.t5(tmp_path) if family == "t5" else checkpoints.bart(kind, tmp_path)
        model = load_for_training(folder)
        prefix = "translate English to German: "
        objective = make("seq2seq", model, prefix=prefix, label_smoothing=smoothing)
        loss = loss_of(objective, model, self.ROWS)
        theirs, tokenizer = reference(kind, folder), transformers.AutoTokenizer.from_pretrained(folder)
        smoother = transformers.trainer_pt_utils.LabelSmoother(epsilon=smoothing)
        total = targets = 0
        for row in self.ROWS:
            labels = tokenizer(text_target=row.values["target"], return_tensors="pt")["input_ids"]
            source = tokenizer(prefix + row.values["source"], return_tensors="pt")["input_ids"]
            output = theirs(input_ids=source, labels=labels)
            total += smoother(output, labels).item() * labels.numel()
            targets += labels.numel()
        assert loss.num_targets == targets
        assert loss.total.item() == pytest.approx(total, rel=1e-5)

    def test_what_it_refuses(self, tmp_path: Path) -> None:
        model = load_for_training(checkpoints.t5(tmp_path))
        with pytest.raises(InputError, match="label_smoothing=1.0"):
            make("seq2seq", model, label_smoothing=1.0)
        objective = make("seq2seq", model, max_target_length=3)
        with pytest.raises(InputError, match="data.jsonl, line 1: Text 0 has .* more than the 3 that fit"):
            objective.examples(self.ROWS[0])
        with pytest.raises(InputError, match="data.jsonl, line 1: target is missing; the row has source"):
            objective.examples(*rows({"source": "A cat."}))


class TestSequenceClassification:
    @pytest.mark.parametrize(
        ("problem", "values"),
        [
            ("single_label_classification", [{"label": "b"}, {"label": "a"}, {"label": "c"}]),
            ("multi_label_classification", [{"labels": ["a", "c"]}, {"labels": []}, {"labels": ["b"]}]),
            ("regression", [{"score": [0.1, 2, -3]}, {"score": ["1.5", 0, 0]}, {"score": [1, 1, 1]}]),
        ],
    )
    def test_loss(self, problem: str, values: list[dict[str, Any]], minilm: Path, tmp_path: Path) -> None:
        load_for_training(minilm, new_head=NewHead(spec.SequenceHead, labels=["a", "b", "c"], problem=problem)).save(
            tmp_path
        )
        model = load_for_training(tmp_path)
        objective = make("sequence-classification", model)
        given = rows(*({"text": text, "text_pair": "And?", **own} for text, own in zip(TEXTS, values, strict=True)))
        loss = loss_of(objective, model, given)
        theirs, tokenizer = reference("AutoModelForSequenceClassification", tmp_path), tokenizer_of(minilm)
        batch = tokenizer(TEXTS, ["And?"] * 3, padding=True, return_tensors="pt")
        labels: Any = {
            "single_label_classification": torch.tensor([1, 0, 2]),
            "multi_label_classification": torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]]),
            "regression": torch.tensor([[0.1, 2, -3], [1.5, 0, 0], [1, 1, 1]]),
        }[problem]
        assert loss.total.item() / loss.num_targets == pytest.approx(
            theirs(**batch, labels=labels).loss.item(), rel=1e-5
        )

    def test_labels_of_rows(self) -> None:
        def labels(*values: dict[str, Any], **settings: Any) -> Any:
            kind = find_objective("sequence-classification")
            return kind.new_head(kind.settings_type(**settings), rows(*values)).labels

        assert labels({"label": "b"}, {"label": 1}, {"label": "a"}) == ["1", "a", "b"]
        assert labels({"labels": ["x", "y"]}, {"labels": ["x", "z"]}) == ["x", "y", "z"]
        assert labels({"labels": ["x", "y"]}, labels=["y", "z"]) == ["y", "z"]
        assert labels({"score": 1}, problem=spec.Problem.REGRESSION) is None
        with pytest.raises(InputError, match="line 1: labels is 'xy'; expected a list"):
            labels({"labels": "xy"})

    def test_what_it_refuses(self, minilm: Path) -> None:
        with pytest.raises(WrongTaskError, match=r"new_head=NewHead\(spec.SequenceHead"):
            make("sequence-classification", load_for_training(minilm))
        model = load_for_training(minilm, new_head=NewHead(spec.SequenceHead, labels=["a", "b"]))
        objective = make("sequence-classification", model, max_length=5)
        refused: list[tuple[dict[str, Any], str]] = [
            ({"text": "Rain.", "label": "c"}, "label 'c' is none of the model's: a, b"),
            ({"text": "Rain.", "label": 1.5}, "label is 1.5; expected a text or a whole number"),
            ({"text": 3, "label": "a"}, "text is 3; expected a text"),
            ({"label": "a"}, "text is missing; the row has label"),
            ({"text": LONG, "label": "a"}, "more than the 5 that fit"),
        ]
        for values, message in refused:
            with pytest.raises(InputError, match=f"data.jsonl, line 1: .*{message}"):
                objective.examples(*rows(values))
        cut = make("sequence-classification", model, max_length=5, long_input="truncate")
        assert cut.num_tokens(*cut.examples(*rows({"text": LONG, "label": "a"}))) == 5
        for settings in ({"max_length": 1000}, {"max_length": 0}, {"long_input": "window"}):
            with pytest.raises(InputError, match="expected"):
                make("sequence-classification", model, **settings)


def tokenizer_of(folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(folder)


class TestTokenClassification:
    WORDS = ("Ms.", "Unbelievably-Longname", "lives", "in", "Zürich", ",", "\u200b", "Switzerland", ".")
    TAGS = ("O", "PER", "O", "O", "LOC", "O", "O", "LOC", "O")

    @pytest.mark.parametrize("family", ["bert", "llama", "bart"])
    def test_loss_and_where_the_labels_are(self, family: str, minilm: Path, tmp_path: Path) -> None:
        folder = minilm
        if family != "bert":
            folder = checkpoints.llama("LlamaForCausalLM", tmp_path / "base")
        load_for_training(folder, new_head=NewHead(spec.TokenHead, labels=["LOC", "O", "PER"])).save(tmp_path / "new")
        model = load_for_training(tmp_path / "new")
        objective = make("token-classification", model)
        found = objective.new_head(objective.settings_type(), rows({"tags": self.TAGS}))
        assert found.labels == ["LOC", "O", "PER"]
        [example] = objective.examples(*rows({"tokens": self.WORDS, "tags": self.TAGS}))
        encoding = tokenizer_of(folder)(" ".join(self.WORDS), return_offsets_mapping=True)
        begins = np.cumsum([0, *(len(word) + 1 for word in self.WORDS)])[:-1]
        labels, seen = [], set()
        for begin, end in encoding["offset_mapping"]:
            word = int(np.searchsorted(begins, end - 1, side="right")) - 1
            is_first = begin < end and word not in seen and end - 1 < begins[word] + len(self.WORDS[word])
            labels.append(["LOC", "O", "PER"].index(self.TAGS[word]) if is_first else -100)
            seen |= {word} if is_first else set()
        expected = np.full(len(example.ids), -100)
        expected[example.rows] = example.targets
        assert expected.tolist() == labels
        assert len(example.rows) >= len(self.WORDS) - 1
        loss = loss_of(objective, model, rows({"tokens": self.WORDS, "tags": self.TAGS}))
        theirs = reference("AutoModelForTokenClassification", tmp_path / "new")
        output = theirs(input_ids=torch.tensor([example.ids.tolist()]), labels=torch.tensor([labels]))
        assert loss.total.item() / loss.num_targets == pytest.approx(output.loss.item(), rel=1e-5)

    def test_each_word_of_a_long_sentence_is_learned_once(self, minilm: Path) -> None:
        model = load_for_training(minilm, new_head=NewHead(spec.TokenHead, labels=["LOC", "O", "PER"]))
        objective = make("token-classification", model, max_length=32)
        windows = objective.examples(*rows({"tokens": self.WORDS * 20, "tags": self.TAGS * 20}))
        alone = make("token-classification", model).examples(*rows({"tokens": self.WORDS * 20, "tags": self.TAGS * 20}))
        assert len(windows) > 5
        assert np.concatenate([w.targets for w in windows]).tolist() == alone[0].targets.tolist()

    def test_what_it_refuses(self, minilm: Path) -> None:
        model = load_for_training(minilm, new_head=NewHead(spec.TokenHead, labels=["O", "X"]))
        objective = make("token-classification", model)
        refused: list[tuple[dict[str, Any], str]] = [
            ({"tokens": ["a", "b"], "tags": ["O"]}, "expected a tag for each token, got 2 and 1"),
            ({"tokens": ["a"], "tags": ["Y"]}, "tag 'Y' is none of the model's: O, X"),
            ({"tokens": "a", "tags": ["O"]}, "tokens is 'a'; expected a list of texts"),
        ]
        for values, message in refused:
            with pytest.raises(InputError, match=f"data.jsonl, line 1: {message}"):
                objective.examples(*rows(values))


class TestQuestionAnswering:
    CONTEXT = "Ada Lovelace was born in London. She wrote the first program in 1843."

    def test_loss(self, minilm: Path, tmp_path: Path) -> None:
        load_for_training(minilm, new_head=NewHead(spec.SpanHead)).save(tmp_path)
        model = load_for_training(tmp_path)
        objective = make("question-answering", model)
        given = rows(
            {"question": "Where was she born?", "context": self.CONTEXT, "answer": "London"},
            {"question": "When?", "context": self.CONTEXT, "answer": "1843", "answer_start": "64"},
            {"question": "Why?", "context": self.CONTEXT, "answer": ""},
        )
        examples = [example for row in given for example in objective.examples(row)]
        tokenizer = tokenizer_of(minilm)
        found = [tokenizer.decode(each.ids[each.first : each.last + 1]) for each in examples]
        assert found == ["london", "1843", "[CLS]"]
        loss, theirs = loss_of(objective, model, given), reference("AutoModelForQuestionAnswering", tmp_path)
        expected = 0.0
        for each in examples:
            batch = triform.Batch.from_ids([each.ids.tolist()], [each.token_type_ids.tolist()])
            [arguments] = of_sequences(batch)
            ends = {"start_positions": torch.tensor([each.first]), "end_positions": torch.tensor([each.last])}
            expected += theirs(**arguments, **ends).loss.item()
        assert loss.num_targets == 3
        assert loss.total.item() == pytest.approx(expected, rel=1e-5)

    def test_windows_of_a_long_context(self, minilm: Path) -> None:
        model = load_for_training(minilm, new_head=NewHead(spec.SpanHead))
        objective = make("question-answering", model, max_length=40, overlap=10)
        context = LONG + self.CONTEXT + LONG
        windows = objective.examples(*rows({"question": "Where?", "context": context, "answer": "London"}))
        tokenizer = tokenizer_of(minilm)
        found = [tokenizer.decode(each.ids[each.first : each.last + 1]) for each in windows]
        assert set(found) == {"london", "[CLS]"}
        assert len(windows) > 20

    def test_what_it_refuses(self, minilm: Path) -> None:
        objective = make("question-answering", load_for_training(minilm, new_head=NewHead(spec.SpanHead)))
        refused: list[tuple[dict[str, Any], str]] = [
            ({"answer": "Paris"}, "the answer 'Paris' does not stand where it should"),
            ({"answer": "London", "answer_start": 3}, "the answer 'London' does not stand where it should"),
            ({"answer": "London", "answer_start": "x"}, "answer_start is 'x'; expected a number"),
            ({"answer": 3}, "answer is 3; expected a text"),
        ]
        for values, message in refused:
            with pytest.raises(InputError, match=f"data.jsonl, line 1: {message}"):
                objective.examples(*rows({"question": "Where?", "context": self.CONTEXT, **values}))


class TestSentenceEmbedding:
    @pytest.mark.parametrize("has_negative", [True, False])
    def test_loss(self, has_negative: bool, minilm: Path) -> None:
        model = load_for_training(minilm)
        objective = make("sentence-embedding", model)
        texts = {"anchor": TEXTS, "positive": TEXTS[::-1], "negative": ["No.", "Not this one, never.", "Nor this."]}
        names = list(texts)[: 3 if has_negative else 2]
        given = rows(*({name: texts[name][place] for name in names} for place in range(3)))
        loss = loss_of(objective, model, given)
        theirs = sentence_transformers.SentenceTransformer(str(minilm), device="cpu").eval()
        criterion = MultipleNegativesRankingLoss(theirs)
        features = [theirs.preprocess(texts[name]) for name in names]
        expected = criterion(features, None)
        expected.backward()
        assert loss.total.item() / loss.num_targets == pytest.approx(expected.item(), rel=1e-5)
        name = "blocks.2.attention.query.weight"
        gradient = dict(theirs.named_parameters())["0.model.encoder.layer.2.attention.self.query.weight"].grad
        assert gradient is not None
        own = trainable_parameters(model)[name].grad
        assert own is not None
        assert (own / loss.num_targets - gradient).abs().max() <= 1e-4 * gradient.abs().max()

    def test_what_it_refuses(self, minilm: Path, tmp_path: Path) -> None:
        with pytest.raises(WrongTaskError, match=r"new_head=NewHead\(None\)"):
            make("sentence-embedding", load_for_training(minilm, new_head=NewHead(spec.SpanHead)))
        with pytest.raises(InputError, match="scale=0"):
            make("sentence-embedding", load_for_training(minilm), scale=0)
