"""The torch engine trains as transformers does: losses, gradients, steps; dropout; recomputed blocks."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import triform
from tests.parity.cases import CASES
from tests.parity.harness import Case, make_checkpoint, random_inputs
from triform.engines import Format, create_engine
from triform.engines.torch import dropout
from triform.errors import EngineError
from triform.model import Model, load_for_training
from triform.model.trainable import trainable_parameters

LENGTHS = (9, 17, 9, 4, 12)
FORMS = [case for case in CASES if case.name in ("bert-masked-lm", "t5-lm", "llama-grouped", "marian-lm")]


def ours(model: Model, sources: list[list[int]], targets: list[list[int]] | None) -> torch.Tensor:
    """Return a scalar to differentiate; every row of the result contributes."""
    batches = [triform.Batch.from_ids(ids) for ids in (sources, targets) if ids is not None]
    network: Any = model.network
    output = network(*batches)
    return weighed(output.last_hidden_state if output.logits is None else output.logits)


def theirs(reference: Any, sources: list[list[int]], targets: list[list[int]] | None) -> torch.Tensor:
    rows = []
    for place, source in enumerate(sources):
        target = {} if targets is None else {"decoder_input_ids": torch.tensor([targets[place]])}
        output = reference(torch.tensor([source]), **target)
        if hasattr(output, "start_logits"):
            rows.append(torch.stack([output.start_logits, output.end_logits], dim=-1)[0])
        else:
            rows.append((output.logits if hasattr(output, "logits") else output.last_hidden_state)[0])
    return weighed(torch.stack(rows) if rows[0].dim() == 1 else torch.cat(rows))


def without_dropout(model: Model) -> Model:
    """Disable dropout, but keep the gradients and the precision of training."""
    model.engine.dropout = lambda x, rate: x  # type: ignore[method-assign]
    attention: Any = model.engine.attention

    def without(*arguments: Any, dropout: float, **more: Any) -> Any:
        return attention(*arguments, **more)

    model.engine.attention = cast(Any, without)  # type: ignore[method-assign]
    return model


@contextmanager
def sites_of_dropout() -> Iterator[Counter[tuple[float, int]]]:
    """Count the numbers passed to dropout, by (rate, size of the last axis)."""
    sites: Counter[tuple[float, int]] = Counter()
    functional = torch.nn.functional
    theirs, ours, attention = functional.dropout, dropout.drop, functional.scaled_dot_product_attention

    def noted_drop(x: torch.Tensor, rate: float) -> torch.Tensor:
        sites[rate, x.shape[-1]] += x.numel()
        return ours(x, rate)

    def noted(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        if p and training:
            sites[p, x.shape[-1]] += x.numel()
        return theirs(x, p, training, inplace)

    def noted_attention(query: torch.Tensor, key: torch.Tensor, *rest: Any, dropout_p: float, **more: Any) -> Any:
        if dropout_p:
            sites[dropout_p, key.shape[-2]] += query.shape[:-1].numel() * key.shape[-2]
        return attention(query, key, *rest, dropout_p=dropout_p, **more)

    functional.dropout, functional.scaled_dot_product_attention = noted, noted_attention
    dropout.drop = noted_drop
    try:
        yield sites
    finally:
        functional.dropout, functional.scaled_dot_product_attention = theirs, attention
        dropout.drop = ours


def weighed(x: torch.Tensor) -> torch.Tensor:
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    return (x * weights).sum() / len(x)


def assert_same_gradients(model: Model, reference: Any) -> None:
    named = reference.named_parameters(remove_duplicate=False)
    expected = {name: own.grad for name, own in named if own.grad is not None}
    # A bias that adds the same to all keys has no gradient but rounding errors.
    floor = 1e-2 * max(gradient.abs().max() for gradient in expected.values())
    compared = set()
    for name, parameter in trainable_parameters(model).items():
        source = model.blueprint.assignment.sources[name]
        gradient = source.cut(expected[source.tensor].numpy())
        assert parameter.grad is not None, name
        assert np.abs(parameter.grad.numpy() - gradient).max() <= 1e-4 * max(floor, np.abs(gradient).max()), name
        compared.add(id(expected[source.tensor]))
    assert compared == set(map(id, expected.values()))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_gradient_equals_that_of_transformers(case: Case, tmp_path: Path) -> None:
    reference = make_checkpoint(case, tmp_path)
    model = load_for_training(tmp_path)
    sources, targets = random_inputs(case, model, lengths=LENGTHS)
    loss, expected = ours(model, sources, targets), theirs(reference, sources, targets)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    loss.backward()
    expected.backward()
    assert_same_gradients(model, reference)


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case.name)
def test_blocks_computed_again_give_the_same_gradients_with_dropout(case: Case, tmp_path: Path) -> None:
    make_checkpoint(case, tmp_path)
    model = load_for_training(tmp_path)
    inputs = random_inputs(case, model, lengths=LENGTHS)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        with model.engine.training(recompute=recompute):
            loss = ours(model, *inputs)
        loss.backward()  # outside, where dropout is off
        gradients.append([own.grad.clone() for own in trainable_parameters(model).values() if own.grad is not None])
        for own in trainable_parameters(model).values():
            own.grad = None
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case.name)
def test_blocks_computed_again_keep_less(case: Case, tmp_path: Path) -> None:
    make_checkpoint(case, tmp_path)
    model = load_for_training(tmp_path)
    inputs = random_inputs(case, model, lengths=(40, 40, 40, 40))
    kept = []
    for recompute in (False, True):
        sizes: dict[int, int] = {}
        with (
            torch.autograd.graph.saved_tensors_hooks(partial(note_size, sizes), lambda x: x),
            model.engine.training(recompute=recompute),
        ):
            ours(model, *inputs)
        kept.append(sum(sizes.values()))
    assert kept[1] < 0.6 * kept[0]


def note_size(sizes: dict[int, int], x: torch.Tensor) -> torch.Tensor:
    if not isinstance(x, torch.nn.Parameter):
        sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
    return x


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case.name)
@pytest.mark.parametrize("recompute", [False, True])
def test_half_precision_is_near_and_leaves_gradients_in_float32(case: Case, recompute: bool, tmp_path: Path) -> None:
    make_checkpoint(case, tmp_path)
    model = without_dropout(load_for_training(tmp_path))
    inputs = random_inputs(case, model, lengths=LENGTHS)
    exact = ours(model, *inputs)
    with model.engine.training(autocast=Format.BFLOAT16, recompute=recompute):
        half = ours(model, *inputs)
    half.backward()
    assert half.item() != exact.item()
    assert half.item() == pytest.approx(exact.item(), rel=0.05, abs=0.05)
    assert all(own.grad is not None and own.grad.dtype == torch.float32 for own in trainable_parameters(model).values())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_as_much_is_dropped_at_the_same_places(case: Case, tmp_path: Path) -> None:
    """Compare every site of dropout with transformers: rate, last axis and count."""
    reference = make_checkpoint(case, tmp_path).train()
    model = load_for_training(tmp_path)
    sources, targets = random_inputs(case, model, lengths=(6, 6))
    with sites_of_dropout() as expected:
        theirs(reference, sources, targets)
    with sites_of_dropout() as actual, model.engine.training():
        ours(model, sources, targets)
    assert actual == expected


@pytest.mark.parametrize("case", FORMS, ids=lambda case: case.name)
def test_dropout_is_on_while_training_alone(case: Case, tmp_path: Path) -> None:
    make_checkpoint(case, tmp_path)
    model = load_for_training(tmp_path)
    inputs = random_inputs(case, model, lengths=LENGTHS)
    with sites_of_dropout() as sites:
        ours(model, *inputs)
        with model.engine.training():
            model(*(triform.Batch.from_ids(ids) for ids in inputs if ids is not None))
    assert not sites


def test_dropout_keeps_the_mean() -> None:
    engine = create_engine("torch:cpu")
    torch.manual_seed(0)
    x = torch.ones(1000, 1000)
    with engine.training():
        kept = engine.dropout(x, 0.3)
    assert (kept == 0).float().mean().item() == pytest.approx(0.3, abs=0.002)
    assert kept.mean().item() == pytest.approx(1, abs=0.003)
    assert kept.unique().tolist() == [0, pytest.approx(1 / 0.7)]
    assert engine.dropout(x, 0.3) is x


def test_blocks_are_passed_over_while_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(case for case in FORMS if case.name == "marian-lm")
    make_checkpoint(case, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "encoder_layerdrop": 0.5, "decoder_layerdrop": 0.9}))
    model = load_for_training(tmp_path)
    inputs = random_inputs(case, model, lengths=(6, 6))
    gone_through: list[Any] = []
    through = model.engine.recomputed

    def counted(block: Any, x: Any) -> Any:
        gone_through.append(block)
        return through(block, x)

    monkeypatch.setattr(model.engine, "recomputed", counted)
    torch.manual_seed(0)
    for _ in range(200):
        with model.engine.training():
            ours(model, *inputs)
    expected = config["encoder_layers"] * 0.5 + config["decoder_layers"] * 0.1
    assert len(gone_through) / 200 == pytest.approx(expected, rel=0.15)
    gone_through.clear()
    ours(model, *inputs)
    assert len(gone_through) == config["encoder_layers"] + config["decoder_layers"]


def test_other_engines_do_not_train() -> None:
    with pytest.raises(EngineError, match="The reference engine has no gradients"):
        create_engine("reference").training()
