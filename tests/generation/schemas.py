"""Random JSON Schemas of the keywords that grammars enforce, and a tiny model with a tokenizer for its answers."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import triform
from tests.inputs.tokenizer_folders import FOLDERS
from tests.parity.cases import llama
from tests.parity.harness import Case, make_checkpoint
from triform.hub import find_checkpoint
from triform.inputs import Tokenizer

PATTERNS = ("^[A-Z][a-z]{1,6}$", "ab+c", "^\\d{3}-\\d{2}$", "^(yes|no|maybe)$", "[0-9a-f]{4}$", "^é?ü$")
FORMATS = ("date", "time", "date-time", "ipv4", "ipv6", "uuid", "email")
NAMES = ("name", "age", "größe", "a b", 'quo"te', "x", "y", "items", "", "properties", "back\\slash")


def make_model(folder: Path, tokenizer: str, **config: Any) -> tuple[triform.Model, Tokenizer]:
    """Make a random decoder with one of the small tokenizers; its vocabulary has a few ids more."""
    FOLDERS[tokenizer](folder)
    size = len(Tokenizer.from_checkpoint(find_checkpoint(folder)).bytes_of_tokens())
    case = Case(
        name="llama", model="LlamaForCausalLM", config=lambda: llama(vocab_size=size + 5, eos_token_id=0, **config)
    )
    make_checkpoint(case, folder)
    return triform.load(folder), Tokenizer.from_checkpoint(find_checkpoint(folder))


class Schemas:
    """A generator of random schemas."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._defs: dict[str, Any] = {}

    def schema(self) -> dict[str, Any]:
        """Make a whole schema, an object or an array in most cases, with definitions."""
        pick = self._random
        for number in range(pick.randrange(3)):
            self._defs[f"d{number}"] = self._value(1)
        if pick.random() < 0.1:
            tail = {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}
            self._defs["node"] = {
                "type": "object",
                "properties": {"value": {"type": "integer", "minimum": 0, "maximum": 9}, "next": tail},
                "required": ["value", "next"],
                "additionalProperties": False,
            }
        make = pick.choices([self._object, self._array, self._value], [6, 2, 1])[0]
        found = make(3)
        return {"title": "anything", "$defs": self._defs, **found} if self._defs else found

    def _value(self, depth: int) -> dict[str, Any]:
        simple = [self._string, self._integer, self._number, self._literal, self._plain, self._several]
        nested: list[Callable[[int], dict[str, Any]]] = [
            self._object,
            self._array,
            self._any_of,
            self._all_of,
            self._ref,
        ]
        return self._random.choice(simple + nested if depth > 0 else simple)(depth)

    def _string(self, depth: int) -> dict[str, Any]:
        pick, kind = self._random, self._random.randrange(4)
        if kind == 0:
            return {"type": "string", "pattern": pick.choice(PATTERNS)}
        if kind == 1:
            return {"type": "string", "format": pick.choice(FORMATS)}
        least = pick.randrange(4)
        found: dict[str, Any] = {"type": "string", "minLength": least, "maxLength": least + pick.randrange(6)}
        return found | {"pattern": "^[a-zé]*$"} if kind == 2 else found

    def _integer(self, depth: int) -> dict[str, Any]:
        pick = self._random
        low = pick.randrange(-1000, 1000)
        bounds: dict[str, Any] = pick.choice(
            [
                {"minimum": low, "maximum": low + pick.randrange(2000)},
                {"exclusiveMinimum": low, "exclusiveMaximum": low + 2 + pick.randrange(50)},
                {"multipleOf": pick.choice([2, 5, 10]), "minimum": 0, "maximum": 10_000},
                {"minimum": low + 0.5, "maximum": low + 7},
            ]
        )
        return {"type": "integer", **bounds}

    def _number(self, depth: int) -> dict[str, Any]:
        low = round(self._random.uniform(-100, 100), 3)
        return {"type": "number", "minimum": low, "maximum": low + round(self._random.uniform(0.5, 100), 2)}

    def _literal(self, depth: int) -> dict[str, Any]:
        values: list[Any] = [None, True, 7, -2.5, "text", 'quo"te\n', "é", [1, "a"], {"k": [None]}, {}, [], ""]
        pick = self._random
        if pick.random() < 0.4:
            return {"const": pick.choice(values)}
        return {"enum": pick.sample(values, pick.randrange(1, 5))}

    def _plain(self, depth: int) -> dict[str, Any]:
        return {"type": self._random.choice(["boolean", "null"]), "description": "a value"}

    def _several(self, depth: int) -> dict[str, Any]:
        return {"type": self._random.sample(["integer", "null", "boolean"], 2)}

    def _object(self, depth: int) -> dict[str, Any]:
        pick = self._random
        names = pick.sample(NAMES, pick.randrange(1, 5))
        found: dict[str, Any] = {"type": "object", "properties": {name: self._value(depth - 1) for name in names}}
        if pick.random() < 0.8:
            found["required"] = pick.sample(names, pick.randrange(len(names) + 1))
        rest = pick.random()
        if rest < 0.7:
            found["additionalProperties"] = False
        elif rest < 0.8:
            found["additionalProperties"] = {"type": "boolean"}
        return found

    def _array(self, depth: int) -> dict[str, Any]:
        pick = self._random
        least = pick.randrange(3)
        found: dict[str, Any] = {"type": "array", "minItems": least, "maxItems": least + pick.randrange(1, 4)}
        if pick.random() < 0.3:
            found["prefixItems"] = [self._value(depth - 1) for _ in range(pick.randrange(1, 3))]
        found["items"] = self._value(depth - 1)
        return found

    def _any_of(self, depth: int) -> dict[str, Any]:
        if self._random.random() < 0.3:
            return {"oneOf": [{"type": "boolean"}, self._integer(0), {"type": "null"}]}
        return {"anyOf": [self._value(depth - 1) for _ in range(self._random.randrange(2, 4))]}

    def _all_of(self, depth: int) -> dict[str, Any]:
        low = self._random.randrange(50)
        return {"allOf": [{"type": "integer"}, {"minimum": low}, {"maximum": low + self._random.randrange(1, 90)}]}

    def _ref(self, depth: int) -> dict[str, Any]:
        return {"$ref": f"#/$defs/{self._random.choice(list(self._defs))}"} if self._defs else self._plain(depth)


def order_of_keys(schema: dict[str, Any], answer: str) -> bool:
    """Check that the properties of an answer stand in the order of the schema, at the top level."""
    names = list(schema.get("properties", {}))
    found = [name for name, _ in json.loads(answer, object_pairs_hook=list) if name in names]
    return found == [name for name in names if name in found]
