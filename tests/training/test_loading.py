"""Loading for training: a whole checkpoint, a checkpoint with a new head, or a config alone; and the saved result."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import triform
from tests.parity.cases import CASES
from tests.parity.harness import Case, make_checkpoint, random_inputs, run_reference
from triform import spec
from triform.errors import InputError, UnsupportedModelError
from triform.model import Model, NewHead, load_for_training
from triform.model.trainable import trainable_parameters

SIZES = {"hidden_size": 64, "d_model": 64, "n_embd": 64, "dim": 64, "vocab_size": 2000, "decoder_vocab_size": 2000}


def assert_same_answers(model: Model, reference: Any, case: Case) -> None:
    sources, targets = random_inputs(case, model, lengths=(9, 4))
    for place, source in enumerate(sources):
        target = None if targets is None else targets[place]
        batches = [triform.Batch.from_ids([ids]) for ids in (source, target) if ids is not None]
        output = model(*batches)
        expected = run_reference(reference, source, target)
        pairs = [(output.last_hidden_state, expected.hidden_states[-1])]
        if expected.logits is not None:
            pairs.append((output.split("logits")[0], np.atleast_2d(expected.logits)))
        for ours, theirs in pairs:
            difference = np.abs(model.engine.to_numpy(ours) - theirs).max()
            assert difference <= 1e-5 * max(1, np.abs(theirs).max())


def config_alone(case: Case, folder: Path, **changes: Any) -> Path:
    """Write the config.json of transformers for a model of this case, without weights."""
    config = case.config()
    known = {name: value for name, value in changes.items() if name in config.to_dict()}
    model = getattr(transformers, case.model)(type(config)(**{**config.to_dict(), **known}))
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [case.model]
    model.config.save_pretrained(folder)
    return folder / "config.json"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_from_nothing_and_back_to_transformers(case: Case, tmp_path: Path) -> None:
    model = load_for_training(config_alone(case, tmp_path / "config"))
    assert model.blueprint.new_parameters == list(model.parameters)
    model.save(tmp_path / "saved")
    assert_same_answers(model, load_backbone_or_head(case, tmp_path / "saved"), case)
    again = triform.load(tmp_path / "saved", engine="reference")
    assert again.spec == model.spec


def load_backbone_or_head(case: Case, folder: Path) -> Any:
    """Load by transformers; allow missing weights without a use: a pooler, sinusoids, an idle second bias."""
    reference, info = getattr(transformers, case.model).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    idle = ("pooler.dense.weight", "pooler.dense.bias", "embed_positions.weight", "predictions.bias", "lm_head.bias")
    assert all(name.endswith(idle) for name in info["missing_keys"])
    assert not info["unexpected_keys"]
    return reference.eval()


# DistilBERT may initialise positions with sinusoids; Triform does not.
@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name != "distilbert-tokens"], ids=lambda case: case.name
)
def test_what_it_begins_with_is_spread_as_in_transformers(case: Case, tmp_path: Path) -> None:
    path = config_alone(case, tmp_path, **SIZES)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    torch.manual_seed(0)
    reference = getattr(transformers, case.model)(config)
    model = load_for_training(path)
    theirs = dict(reference.named_parameters(remove_duplicate=False)) | dict(reference.named_buffers())
    prefix = model.blueprint.assignment.prefix
    for name, parameter in model.parameters.items():
        target = model.blueprint.table.to_checkpoint(name, prefix=prefix)
        expected = torch.from_numpy(target.cut(theirs[target.tensor].detach().numpy()).copy())
        actual = parameter.tensor.detach()  # type: ignore[attr-defined]
        if expected.dim() == 1:
            assert torch.equal(actual, expected), name
            continue
        assert actual.shape == expected.shape
        error = 5 / expected.numel() ** 0.5
        assert actual.std().item() == pytest.approx(expected.std().item(), rel=error), name
        assert abs(actual.mean().item()) <= error * expected.std().item(), name
        assert torch.equal(actual.eq(0).all(dim=1), expected.eq(0).all(dim=1)), name


def test_the_seed_decides_what_it_begins_with(tmp_path: Path) -> None:
    path = config_alone(next(case for case in CASES if case.name == "bert-sequence"), tmp_path)
    first, second, third = (trainable_parameters(load_for_training(path, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["embedding.word.weight"], third["embedding.word.weight"])


NEW_HEADS = [
    ("bert", NewHead(spec.SequenceHead, labels=["a", "b", "c"])),
    ("bert-masked-lm", NewHead(spec.SequenceHead, labels=["a", "b"], problem="multi_label_classification")),
    ("bert", NewHead(spec.SequenceHead, problem="regression")),
    ("bert-sequence", NewHead(spec.TokenHead, labels=["O", "B-PER", "I-PER"])),
    ("bert", NewHead(spec.SpanHead)),
    ("bert", NewHead(spec.LanguageHead)),
    ("bert-masked-lm", NewHead(None)),
    ("roberta-masked-lm", NewHead(spec.SequenceHead, labels=["a", "b", "c"])),
    ("distilbert", NewHead(spec.SequenceHead, labels=["a", "b", "c"])),
    ("mpnet", NewHead(spec.TokenHead, labels=["a", "b", "c"])),
    ("gpt2-lm", NewHead(spec.SequenceHead, labels=["a", "b", "c"])),
    ("gpt2-lm", NewHead(spec.SpanHead)),
    ("llama-lm", NewHead(spec.TokenHead, labels=["a", "b", "c"])),
    ("llama-lm", NewHead(spec.SpanHead)),
    ("llama", NewHead(spec.SpanHead)),
    ("llama-sequence", NewHead(spec.LanguageHead)),
    ("t5-lm", NewHead(spec.SequenceHead, labels=["a", "b", "c"])),
    ("t5-lm", NewHead(spec.TokenHead, labels=["a", "b", "c"])),
    ("t5-lm", NewHead(spec.SpanHead)),
    ("t5", NewHead(spec.LanguageHead)),
    ("bart-lm", NewHead(spec.SequenceHead, labels=["a", "b", "c"])),
    ("bart", NewHead(spec.LanguageHead)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), NEW_HEADS)
def test_a_new_head_on_an_old_body(name: str, head: NewHead, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    make_checkpoint(case, tmp_path / "old")
    model = load_for_training(tmp_path / "old", new_head=head)
    old = triform.load(tmp_path / "old", engine="reference")
    for parameter in old.parameters:
        if parameter in model.parameters and parameter not in model.blueprint.new_parameters:
            own = model.engine.stored(model.parameters[parameter]).array
            assert np.array_equal(own, old.engine.stored(old.parameters[parameter]).array)
    assert all(
        own.split(".")[0] in ("pooler", "classification_head", "span_head", "language_head")
        for own in model.blueprint.new_parameters
    )
    model.save(tmp_path / "new")
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    [architecture] = config["architectures"]
    saved = Case(name="", model=architecture, config=case.config)
    assert_same_answers(model, load_backbone_or_head(saved, tmp_path / "new"), saved)
    if head.labels is not None:
        assert list(transformers.AutoConfig.from_pretrained(tmp_path / "new").id2label.values()) == head.labels
        assert model.spec.head.labels == tuple(head.labels)  # type: ignore[union-attr]


def test_a_pooler_is_taken_over_and_labels_never(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "bert-sequence")
    make_checkpoint(case, tmp_path)
    model = load_for_training(tmp_path, new_head=NewHead(spec.SequenceHead, labels=["x", "y", "z"]))
    assert model.blueprint.new_parameters == ["classification_head.weight", "classification_head.bias"]


def test_a_language_head_of_its_own_stays_untied(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "t5-v1.1")
    make_checkpoint(case, tmp_path)
    model = load_for_training(tmp_path, new_head=NewHead(spec.LanguageHead))
    assert model.spec.head == triform.load(tmp_path, engine="reference").spec.head
    assert not model.blueprint.new_parameters


def test_the_tokenizer_goes_with_it(minilm: Path, tmp_path: Path) -> None:
    model = load_for_training(minilm, new_head=NewHead(spec.TokenHead, labels=["O", "X"]))
    model.save(tmp_path)
    answers = triform.pipeline("token-classification", model=tmp_path, ignore_labels=[])("A cat sat.")
    theirs = transformers.pipeline("token-classification", model=str(tmp_path), ignore_labels=[])("A cat sat.")
    assert [answer["entity"] for answer in answers] == [answer["entity"] for answer in theirs]
    assert [answer["score"] for answer in answers] == pytest.approx([answer["score"] for answer in theirs], abs=1e-5)


def test_its_own_head(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "marian-lm")
    reference = make_checkpoint(case, tmp_path)
    model = load_for_training(tmp_path)
    assert not model.blueprint.new_parameters
    assert "language_head.bias" not in trainable_parameters(model)
    weights = {name for name, _ in reference.named_parameters() if "embed_positions" not in name}
    assert len(trainable_parameters(model)) == len(weights)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (spec.SequenceHead, {}, "labels are missing: a new SequenceHead needs names"),
        (None, {"labels": ["a", "b"]}, "labels and problem are for a new head that classifies, got no head"),
        (spec.SpanHead, {"labels": ["a"]}, "labels and problem are for a new head that classifies, got SpanHead"),
        (spec.TokenHead, {"labels": ["a", "a"]}, "none of them twice"),
        (spec.SequenceHead, {"labels": ["a"], "problem": "x"}, "problem='x': expected one of single"),
    ],
)
def test_impossible_heads(kind: type[spec.Head] | None, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NewHead(kind, **settings)


def test_what_it_refuses(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "bert")
    make_checkpoint(case, tmp_path)
    with pytest.raises(InputError, match="engine='reference' has no gradients"):
        load_for_training(tmp_path, engine="reference")
    make_checkpoint(next(case for case in CASES if case.name == "marian"), tmp_path / "marian")
    with pytest.raises(UnsupportedModelError, match="needs a SequenceHead, which marian does not have"):
        load_for_training(tmp_path / "marian", new_head=NewHead(spec.SequenceHead, labels=["a", "b"]))
