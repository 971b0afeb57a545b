"""Grammars: every answer follows one or ended by its limit, whichever tokenizer, batch and schedule."""

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from transformers import BartConfig

import triform
from tests.generation.schemas import Schemas, make_model, order_of_keys
from tests.inputs.tokenizer_folders import FOLDERS
from tests.parity.cases import BART, of
from tests.parity.harness import Case, make_checkpoint
from triform import Batch
from triform.errors import InputError
from triform.generation import Completion, FinishReason, Grammar, Request, grammar
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer

PROMPT = [40, 41, 42]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 4}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
WILD: dict[str, Any] = {"do_sample": True, "temperature": 1.5, "top_k": 0, "max_new_tokens": 200}


class Writer:
    """A random model, its tokenizer, and its answers as text."""

    def __init__(self, folder: Path, tokenizer: str) -> None:
        self.model, self.tokenizer = make_model(folder, tokenizer)
        [self.end] = self.model.generation_config.eos_token_id

    def requests(self, grammar: Grammar | None, **settings: Any) -> list[Request]:
        return self.model.new_requests(Batch.from_ids([PROMPT]), grammar=grammar, **{**WILD, **settings})

    def complete(self, grammar: Grammar | None, **settings: Any) -> list[Completion]:
        return self.model.complete_requests(self.requests(grammar, **settings))

    def text(self, ids: list[int]) -> str:
        before = self.tokenizer.decode(PROMPT, clean_up=False)
        return self.tokenizer.decode([*PROMPT, *ids], clean_up=False)[len(before) :]

    def texts(self, grammar: Grammar | None, **settings: Any) -> list[str]:
        return [self.text(whole.ids) for whole in self.complete(grammar, **settings)]


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    return Writer(tmp_path_factory.mktemp("byte_level"), "gpt2")


def validate(text: str, schema: Any) -> None:
    kind = jsonschema.Draft202012Validator
    kind(schema, format_checker=kind.FORMAT_CHECKER).validate(json.loads(text))


@pytest.mark.slow
@pytest.mark.parametrize(("tokenizer", "count"), [("gpt2", 300), ("llama", 60), ("qwen2", 40)])
def test_answers_to_random_schemas_are_valid(tokenizer: str, count: int, tmp_path: Path) -> None:
    writer = Writer(tmp_path, tokenizer)
    schemas = [Schemas(seed).schema() for seed in range(count)]
    requests = [
        request
        for seed, schema in enumerate(schemas)
        for request in writer.requests(Grammar.of_json_schema(schema, writer.tokenizer), seed=seed)
    ]
    reasons = []
    for schema, whole in zip(schemas, writer.model.complete_requests(requests), strict=True):
        reasons.append(whole.finish_reason)
        if whole.finish_reason is FinishReason.STOP:
            text = writer.text(whole.ids)
            validate(text, schema)
            assert schema.get("type") != "object" or order_of_keys(schema, text)
    assert set(reasons) <= {FinishReason.STOP, FinishReason.LENGTH}
    assert reasons.count(FinishReason.STOP) > 0.75 * count


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"not": {"type": "string"}}, "schema: not cannot be enforced"),
        ({"if": {"type": "string"}, "then": {"maxLength": 3}}, "schema: if, then cannot be enforced"),
        ({"type": "array", "uniqueItems": True}, "schema: uniqueItems cannot"),
        ({"type": "array", "contains": {"type": "string"}}, "schema: contains cannot"),
        (
            {"properties": {"a": {"type": "object", "dependentRequired": {"a": ["b"]}}}},
            "schema: dependentRequired cannot",
        ),
        ({"type": "object", "propertyNames": {"pattern": "a"}}, "schema: propertyNames cannot"),
        ({"type": "object", "unevaluatedProperties": False}, "schema: unevaluatedProperties cannot"),
        ({"$dynamicRef": "#a"}, "schema: \\$dynamicRef cannot"),
        ({"type": "string", "pattern": "^(?!a)b"}, "schema: pattern: .*look-around"),
        ({"type": "string", "pattern": "(a)\\1"}, "schema: pattern: .*backreferences"),
        ({"type": "string", "pattern": "\\bfoo"}, "schema: pattern: .*lookarounds"),
        ({"type": "string", "format": "phone"}, "schema: format 'phone' cannot be enforced"),
        ({"$ref": "https://example.org/schema.json"}, "\\$ref 'https://example.org/schema.json' leads to another"),
        ({"items": {"$ref": "other.json#/a"}}, "\\$ref 'other.json#/a' leads to another"),
        ({"$ref": "#/$defs/none"}, "Pointer '/\\$defs/none' does not exist"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf is enforced only where"),
        ({"type": "integer", "divisibleBy": 3}, "divisibleBy cannot be enforced"),
        ({"type": "string", "x-guidance": {"lenient": True}}, "x-guidance cannot be enforced"),
        ({"type": "integer", "exclusiveMinimum": True}, "exclusiveMinimum is True; expected a number"),
        ({"type": "object", "properties": {"a": {"type": "string", "$id": "#"}}}, "\\$id within the schema makes it"),
        ({"type": "strin"}, "Invalid type: strin"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum .5. is greater than maximum"),
        ({"enum": []}, "Unsatisfiable schema"),
        ({"type": "string", "maxLength": -1}, "maxLength"),
        (False, "expected a JSON Schema, which is an object, got False"),
        ([{}], "expected a JSON Schema, which is an object"),
        ({"const": float("nan")}, "Out of range float values"),
        ({"const": {1, 2}}, "not JSON serializable"),
        ({"const": "\ud800"}, "surrogates not allowed"),
        ({"enum": ["x" * 70_000]}, "70,.* bytes are more than the 65,536"),
        ({"type": "string", "pattern": "(a{1000}){1000}"}, "schema: pattern: .* has more than 100,000 characters with"),
        ({"patternProperties": {"(a{400}){400}": {}}}, "schema: pattern: .* has more than 100,000 characters"),
        ({"allOf": [{"multipleOf": 997}, {"multipleOf": 0.991}]}, "multipleOf .997, 0.991. needs too many states"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value)[:40],
)
def test_what_cannot_be_enforced_is_named(schema: Any, message: str, writer: Writer) -> None:
    begin = time.perf_counter()
    with pytest.raises(InputError, match=message):
        Grammar.of_json_schema(schema, writer.tokenizer)
    assert time.perf_counter() - begin < 10


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def test_schemas_are_bounded_before_they_are_compiled(writer: Writer) -> None:
    Grammar.of_json_schema(nested(40), writer.tokenizer)
    with pytest.raises(InputError, match="nested more than 64 levels deep"):
        Grammar.of_json_schema(nested(65), writer.tokenizer)
    with pytest.raises(InputError, match="nested too deeply"):
        Grammar.of_json_schema(nested(2000), writer.tokenizer)
    definitions: dict[str, Any] = {"d20": {"type": "string"}}
    for number in range(20):
        next_ = {"$ref": f"#/$defs/d{number + 1}"}
        definitions[f"d{number}"] = {"allOf": [next_, {"anyOf": [next_, {"type": "integer"}]}]}
    begin = time.perf_counter()
    with pytest.raises(InputError, match="combinations of alternatives"):
        Grammar.of_json_schema({"$defs": definitions, "$ref": "#/$defs/d0"}, writer.tokenizer)
    assert time.perf_counter() - begin < 5
    many: dict[str, Any] = {"properties": {f"a{number}": {} for number in range(4000)}}
    begin = time.perf_counter()
    with pytest.raises(InputError, match="grammar size"):
        Grammar.of_json_schema(many, writer.tokenizer)
    assert time.perf_counter() - begin < 10


def test_white_space_is_bounded(writer: Writer) -> None:
    """A model that writes a space wherever it may comes to an end, and no run is longer than eight."""
    [space] = [id for id, own in enumerate(writer.tokenizer.bytes_of_tokens()) if own == b" "]
    schema = {"type": "array", "items": PERSON, "minItems": 2, "maxItems": 2}
    compiled = Grammar.of_json_schema(schema, writer.tokenizer)
    for seed in range(5):
        [whole] = writer.complete(compiled, logit_bias={space: 100}, seed=seed, max_new_tokens=250)
        assert whole.finish_reason is FinishReason.STOP
        text = writer.text(whole.ids)
        validate(text, schema)
        assert max(map(len, re.findall(r"\s+", text))) == 8


def test_an_answer_ends_where_the_grammar_may_end(writer: Writer) -> None:
    whole_text = Grammar.of_regex("ab{2,9}", writer.tokenizer)
    ends = set()
    for seed in range(40):
        [whole] = writer.complete(whole_text, seed=seed, logit_bias={writer.end: 1.0})
        assert whole.finish_reason is FinishReason.STOP
        text = writer.text(whole.ids)
        assert re.fullmatch("ab{2,9}", text)
        # The end token is written where the grammar could go on, and only there.
        assert (whole.ids[-1] == writer.end) == (text.count("b") < 9)
        ends.add(text)
    assert len(ends) > 3
    # A grammar forbids the end token here, however probable it is.
    [whole] = writer.complete(Grammar.of_regex("x{50}", writer.tokenizer), logit_bias={writer.end: 100})
    assert writer.text(whole.ids) == "x" * 50
    assert whole.finish_reason is FinishReason.STOP
    # A limit is told apart, also where an end is forced by the checkpoint.
    [whole] = writer.complete(Grammar.of_regex("x{50}", writer.tokenizer), max_new_tokens=3)
    assert whole.finish_reason is FinishReason.LENGTH
    # Without an end token the grammar goes on as long as it can.
    [whole] = writer.complete(Grammar.of_regex("(xy)*", writer.tokenizer), max_new_tokens=9, eos_token_id=[])
    assert whole.finish_reason is FinishReason.LENGTH


def test_each_kind_of_grammar(writer: Writer) -> None:
    tokenizer = writer.tokenizer
    choices = ["yes", "no", "né\n\"'", "yes, but"]
    found = {text for seed in range(30) for text in writer.texts(Grammar.of_choices(choices, tokenizer), seed=seed)}
    assert found <= set(choices)
    assert len(found) > 2
    [text] = writer.texts(Grammar.of_lark('start: "a" inner\ninner: /[0-9]{3}/ "b"', tokenizer))
    assert re.fullmatch(r"a[0-9]{3}b", text)
    close = {id: 20 for id, own in enumerate(tokenizer.bytes_of_tokens()) if own in (b"}", b"]", b'"')}
    [text] = writer.texts(Grammar.of_json_object(tokenizer), logit_bias=close)
    assert isinstance(json.loads(text), dict)
    wrongs: tuple[tuple[Callable[[], Grammar], str], ...] = (
        (lambda: Grammar.of_choices([], tokenizer), "choices: expected a list of one or more texts"),
        (lambda: Grammar.of_choices(["a", ""], tokenizer), "choices: expected a list"),
        (lambda: Grammar.of_choices("ab", tokenizer), "choices: expected a list"),
        (lambda: Grammar.of_regex("", tokenizer), "regex: expected a text"),
        (lambda: Grammar.of_regex("(", tokenizer), "regex: .*unclosed group"),
        (lambda: Grammar.of_regex("(?=a)b", tokenizer), "regex: .*look-around"),
        (lambda: Grammar.of_regex("a" * 70_000, tokenizer), "regex: 70,000 bytes are more"),
        (lambda: Grammar.of_regex("\ud800", tokenizer), "regex: character 0 is half of a pair"),
        (lambda: Grammar.of_regex("()", tokenizer), "regex: only the empty text follows it"),
        (lambda: Grammar.of_lark("start: nothing", tokenizer), "grammar: .*unknown name"),
        (lambda: Grammar.of_lark("x" * 70_000, tokenizer), "grammar: 70,000 bytes"),
    )
    for wrong, message in wrongs:
        with pytest.raises(InputError, match=message):
            wrong()


def test_beams_and_forced_ends_are_refused(writer: Writer) -> None:
    compiled = Grammar.of_regex("a+", writer.tokenizer)
    batch = Batch.from_ids([PROMPT])
    with pytest.raises(InputError, match="num_beams=2: beams cannot follow a grammar"):
        writer.model.new_requests(batch, grammar=compiled, num_beams=2)
    with pytest.raises(InputError, match="forced_eos_token_id: a grammar decides"):
        writer.model.new_requests(batch, grammar=compiled, forced_eos_token_id=3)


def test_branches_have_their_own_place(writer: Writer) -> None:
    compiled = Grammar.of_json_schema(PERSON, writer.tokenizer)
    texts = writer.texts(compiled, num_return_sequences=6, seed=3)
    for text in texts:
        validate(text, PERSON)
    assert len(set(texts)) == 6


@pytest.mark.parametrize(
    "settings", [{}, {"do_sample": False, "temperature": None, "top_k": None}], ids=["drawn", "greedy"]
)
def test_answers_are_the_same_in_any_company(writer: Writer, settings: dict[str, Any]) -> None:
    """Alone, beside requests with and without grammars, and preempted for want of pages; no other answer changes."""
    grammars: list[Grammar | None] = [
        Grammar.of_json_schema(PERSON, writer.tokenizer),
        None,
        Grammar.of_regex("[a-z ]{20,40}", writer.tokenizer),
        Grammar.of_json_schema(PERSON, writer.tokenizer),
        None,
    ]
    settings = {**settings, "max_new_tokens": 40, "log_probabilities": True}

    def make() -> list[Request]:
        return [
            request
            for seed, own in enumerate(grammars)
            for request in writer.requests(own, **settings, **({} if "do_sample" in settings else {"seed": seed}))
        ]

    alone = [whole for request in make() for whole in writer.model.complete_requests([request])]
    assert writer.model.complete_requests(make()) == alone
    scheduler = writer.model.new_scheduler(byte_budget=4 * writer.model.new_scheduler().pool.store.page_bytes)
    crowded = make()
    for _ in scheduler.run(crowded):
        pass
    assert [whole for request in crowded for whole in request.completions] == alone


def test_log_probabilities_and_alternatives_are_those_before_the_grammar(writer: Writer) -> None:
    [request] = writer.requests(
        Grammar.of_regex("[ab]{5}", writer.tokenizer), log_probabilities=True, num_alternatives=3, seed=1
    )
    [whole] = writer.model.complete_requests([request])
    [score] = writer.model.score(Batch.from_ids([PROMPT + whole.ids]), num_alternatives=3)
    assert score.log_probabilities[len(PROMPT) :] == whole.log_probabilities
    assert score.alternatives[len(PROMPT) :] == whole.alternatives


def test_threads_share_a_grammar(writer: Writer) -> None:
    compiled = Grammar.of_json_schema(PERSON, writer.tokenizer)
    expected = [writer.texts(compiled, seed=seed) for seed in range(8)]
    found: dict[int, list[str]] = {}
    threads = [
        threading.Thread(target=lambda seed=seed: found.update({seed: writer.texts(compiled, seed=seed)}))
        for seed in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(8)] == expected


def test_the_limit_of_the_lexer_is_that_of_one_answer(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers share the states of a lexer, but none fails by the states of others."""
    pattern = "(ab|ba|cc){1,200}x[0-9]{3,50}"
    settings = {"max_new_tokens": 30}
    expected = [writer.texts(Grammar.of_regex(pattern, writer.tokenizer), seed=seed, **settings) for seed in range(6)]
    renewed = []
    renew = Grammar.renew

    def counted(own: Grammar) -> Any:
        renewed.append(own)
        return renew(own)

    monkeypatch.setattr(Grammar, "renew", counted)
    monkeypatch.setattr(grammar, "MAX_LEXER_STATES", 70)
    compiled = Grammar.of_regex(pattern, writer.tokenizer)
    assert [writer.texts(compiled, seed=seed, **settings) for seed in range(6)] == expected
    assert renewed


def test_a_failure_is_that_of_its_request(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "MAX_LEXER_STATES", 40)
    bad = writer.requests(Grammar.of_regex("(ab|ba|cc){1,200}x[0-9]{3,50}", writer.tokenizer), seed=1)
    good = writer.requests(Grammar.of_regex("(ab|ba)c", writer.tokenizer), seed=1)
    scheduler = writer.model.new_scheduler()
    for request in (*bad, *good):
        scheduler.add(request)
    while scheduler.has_work:
        scheduler.step()
    monkeypatch.undo()
    assert isinstance(bad[0].error, InputError)
    assert "The answer cannot go on" in str(bad[0].error)
    assert good[0].completions[0].finish_reason is FinishReason.STOP


@pytest.mark.parametrize("name", FOLDERS)
def test_the_bytes_of_tokens_are_those_of_texts(name: str, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_checkpoint(find_checkpoint(FOLDERS[name](tmp_path)))
    known = tokenizer.bytes_of_tokens()
    letters = [id for id, own in enumerate(known) if own]
    assert len(letters) > 0.9 * len(known)
    rng = np.random.default_rng(0)
    num_texts = 0
    for _ in range(300):
        ids = rng.choice(letters, rng.integers(1, 8)).tolist()
        first, last = (next(id for id in letters if known[id].strip() == sign) for sign in (b"a", b"e"))
        expected = b"".join(known[id] for id in [first, *ids, last])
        try:
            text = expected.decode()
        except UnicodeDecodeError:
            continue
        # WordPiece writes some signs without the space before them.
        found = tokenizer.decode([first, *ids, last], clean_up=False)
        plain = [one.replace(" ", "") if tokenizer.marks_subwords else one.strip() for one in (found, text)]
        assert plain[0] == plain[1]
        num_texts += 1
    assert num_texts > 60


@pytest.mark.parametrize("tokenizer", ["t5", "xlm_roberta"])
def test_a_vocabulary_that_cannot_write_json_is_an_error(tokenizer: str, tmp_path: Path) -> None:
    writer = Writer(tmp_path, tokenizer)
    with pytest.raises(InputError, match="no token with which such a text could begin"):
        Grammar.of_json_schema({"type": "object"}, writer.tokenizer)
    words = Grammar.of_regex("( ?[a-y]+){2,3}", writer.tokenizer)
    [text] = writer.texts(words, seed=1, max_new_tokens=60)
    assert re.fullmatch("( ?[a-y]+)+", text)


def test_an_encoder_decoder_follows_a_grammar(tmp_path: Path) -> None:
    FOLDERS["gpt2"](tmp_path)
    config = of(BartConfig, BART, vocab_size=410, max_position_embeddings=256)
    make_checkpoint(Case(name="bart", model="BartForConditionalGeneration", config=config), tmp_path)
    settings = {"forced_bos_token_id": 409, "forced_eos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 2}
    (tmp_path / "generation_config.json").write_text(json.dumps(settings))
    model, tokenizer = triform.load(tmp_path), Tokenizer.from_checkpoint(find_checkpoint(tmp_path))
    compiled = Grammar.of_json_schema(PERSON, tokenizer)
    requests = model.new_requests(Batch.from_ids([PROMPT]), grammar=compiled, num_return_sequences=5, seed=1, **WILD)
    for whole in model.complete_requests(requests):
        assert whole.ids[0] == 409  # forced, and no part of the text
        validate(tokenizer.decode(whole.ids), PERSON)
    [request] = model.new_requests(Batch.from_ids([PROMPT]), grammar=compiled, max_new_tokens=6)
    [whole] = model.complete_requests([request])
    assert whole.finish_reason is FinishReason.LENGTH


def test_the_library_is_an_extra(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(InputError, match="pip install 'triform\\[serve-json\\]'"):
        Grammar.of_json_object(writer.tokenizer)
