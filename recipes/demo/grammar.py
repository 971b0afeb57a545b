"""Context-free grammars: a TOML file of symbols, each a list of words or of templates.

In a template

- `{symbol}` stands for one of the symbol's alternatives, and `[one|another|]` for one of those between the bars;
- `{symbol@}` takes them from the symbol's table for the text's feature (`positive`, say), `{symbol~}` from that for its
  opposite;
- `{symbol!}` keeps a tenth of the alternatives, always the same, for held-out sentences, which take no others there;
- `{name=symbol}` gives what was written a name: `{name}` writes it again, and it is found under the name in `spans`.

What a grammar writes depends on its seed alone.
"""

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

REFERENCE = re.compile(r"\{(?:(?P<name>\w+)=)?(?P<symbol>\w+)(?P<feature>[@~]?)(?P<reserved>!?)\}")
CHOICE = re.compile(r"\[([^\[\]]*)\]")
BEFORE_AN = re.compile(r"(?i)(?:[aeio]|u(?!ni|se|su|ti))(?!ne\b|nce\b|uro)|hour|honest")

Alternatives = Sequence[str]


@dataclass(slots=True)
class Sentence:
    """The text written up to now."""

    text: str = ""
    spans: list[tuple[str, int, int]] = field(default_factory=list)
    """(name, first character, last character + 1) of each named piece."""

    def write(self, piece: str) -> None:
        """Add a piece, with the spaces, articles and capitals required by English after the earlier text."""
        quoting = self.text.count('"') % 2 == 1
        end = self.text[-4:]
        if not end or end.endswith((" ", "(")) or (quoting and end.endswith('"')):
            piece = piece.lstrip(" ")
        if piece[:1] in (".", ",", "!", "?", ";", ":", "'"):
            self.text = self.text.rstrip(" ")
        if re.search(r"(?i)\ba $", end) and BEFORE_AN.match(piece):
            self.text = self.text[:-1] + "n "
        # A quoted question may continue: "Where?" asked Anna.
        if not self.text or re.search(r"([.!?]|\.\") \"?$", self.text[-4:]):
            piece = piece[:1].upper() + piece[1:]
        self.text += piece


class Grammar:
    """The symbols of a TOML file."""

    def __init__(self, path: Path) -> None:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        self.opposites: Mapping[str, str] = raw.pop("opposites", {})
        self._symbols = {name: _alternatives(value) for name, value in raw.items()}

    def write(self, symbol: str, rng: random.Random, *, feature: str = "", held_out: bool = False) -> Sentence:
        """Write a sentence (or text) from a start symbol."""
        writer = _Writer(self, rng, feature, held_out)
        writer.symbol(symbol, feature if isinstance(self._symbols[symbol], Mapping) else "", reserved=False)
        writer.sentence.text = writer.sentence.text.strip()
        return writer.sentence

    def alternatives(self, symbol: str, feature: str = "") -> Alternatives:
        """Return the alternatives of a symbol."""
        found = self._symbols[symbol]
        return found[feature] if isinstance(found, Mapping) else found


class _Writer:
    def __init__(self, grammar: Grammar, rng: random.Random, feature: str, held_out: bool) -> None:
        self.grammar, self.rng, self.feature, self.held_out = grammar, rng, feature, held_out
        self.sentence = Sentence()
        self.named: dict[str, str] = {}

    def symbol(self, symbol: str, feature: str, *, reserved: bool) -> None:
        alternatives = self.grammar.alternatives(symbol, feature)
        if reserved:
            kept = [one for one in alternatives if is_reserved(one) == self.held_out]
            alternatives = kept or alternatives
        self.template(self.rng.choice(alternatives))

    def template(self, template: str) -> None:
        while match := CHOICE.search(template):
            chosen = self.rng.choice(match[1].split("|"))
            template = template[: match.start()] + chosen + template[match.end() :]
        template = re.sub(rf"(?i)\b(a) (?={BEFORE_AN.pattern.removeprefix('(?i)')})", r"\1n ", template)
        done = 0
        for match in REFERENCE.finditer(template):
            self.sentence.write(template[done : match.start()])
            self.reference(match)
            done = match.end()
        self.sentence.write(template[done:])

    def reference(self, match: re.Match[str]) -> None:
        if match["symbol"] in self.named:
            self.sentence.write(self.named[match["symbol"]])
            return
        feature = {"": "", "@": self.feature, "~": self.grammar.opposites.get(self.feature, "")}[match["feature"]]
        first = len(self.sentence.text)
        self.symbol(match["symbol"], feature, reserved=bool(match["reserved"]))
        if match["name"]:
            written = self.sentence.text[first:]
            first += len(written) - len(written.lstrip())
            self.named[match["name"]] = written.strip()
            self.sentence.spans.append((match["name"], first, first + len(written.strip())))


def is_reserved(alternative: str) -> bool:
    """Return whether an alternative belongs to the tenth reserved for held-out sentences."""
    return crc32(alternative.encode()) % 10 == 0


def _alternatives(value: object) -> Alternatives | Mapping[str, Alternatives]:
    match value:
        case str():
            return value.split()
        case list():
            return [str(one) for one in value]
        case dict():
            return {
                str(name): words
                for name, each in value.items()
                if not isinstance(words := _alternatives(each), Mapping)
            }
    raise TypeError(f"a symbol is a string of words, a list of templates, or a table of either, not {value!r}")
