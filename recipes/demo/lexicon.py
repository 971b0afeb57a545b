"""The translator's words, as written in `words/translation.toml`."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from recipes.demo import english, french
from recipes.demo.english import EnglishVerb
from recipes.demo.french import WITH_ETRE, Tense


class Noun(NamedTuple):
    """A noun of both languages, in both numbers."""

    english: str
    english_plural: str
    french: str
    french_plural: str
    feminine: bool
    plural_only: bool
    """In French: les vacances."""

    @classmethod
    def read(cls, written: str) -> "Noun":
        """`eye/eyes œil/yeux m`; p and q are feminine and masculine ones without a singular."""
        own, other, gender = _spaced(written)
        singular, _, plural = own.partition("/")
        french_singular, _, french_plural = other.partition("/")
        return cls(
            singular,
            plural or english.plural_of(singular),
            french_singular,
            french_plural or french.plural_of(french_singular),
            gender in "fp",
            gender in "pq",
        )


class Adjective(NamedTuple):
    """An adjective of both languages."""

    english: str
    masculine: str
    feminine: str
    before_vowel: str
    """The masculine before a vowel: bel, nouvel, vieil."""
    precedes: bool

    @classmethod
    def read(cls, written: str) -> "Adjective":
        """`beautiful beau/belle/bel <`."""
        own, forms, *before = _spaced(written)
        masculine, feminine, vowel, *_ = [*forms.split("/"), "", ""]
        return cls(own, masculine, feminine or french.feminine_of(masculine), vowel or masculine, bool(before))

    def agreed(self, *, feminine: bool, plural: bool, noun: str = "") -> str:
        """Return the form beside a noun; a masculine form may change before a vowel."""
        if feminine:
            form = self.feminine
        else:
            form = self.before_vowel if noun and not plural and french.begins_with_vowel(noun) else self.masculine
        if self.feminine == self.masculine and " " in form:  # bon marché, en bois
            return form
        return french.plural_of(form) if plural else form


@dataclass(frozen=True, slots=True)
class FrenchVerb:
    """A French verb, such as `se_souvenir:de` or `prendre_une_douche`."""

    infinitive: str
    reflexive: bool
    tail: str
    preposition: str

    @classmethod
    def read(cls, written: str) -> "FrenchVerb":
        """The first word, or the one behind se or s, is the verb."""
        words, _, preposition = written.partition(":")
        first, *rest = words.split("_")
        reflexive = first in ("se", "s")
        if reflexive:
            first, *rest = rest
        return cls(first, reflexive, "".join(f" {word}" for word in rest), preposition)

    @property
    def name(self) -> str:
        """Return the full infinitive, distinct for every verb."""
        return ("se " if self.reflexive else "") + self.infinitive + self.tail

    def finite(
        self,
        tense: Tense,
        person: int,
        no: str = "",
        clitic: str = "",
        adverb: str = "",
        *,
        feminine: bool = False,
        agrees: str = "",
    ) -> str:
        """Return the verb phrase after the subject: `ne l'a jamais vue`, say; `no` is pas, jamais, plus or nothing.

        `clitic` is an object's pronoun, and `agrees` the ending that a participle takes behind it.
        """
        own = "me te se nous vous se".split()[person] if self.reflexive else ""
        behind = ""
        match tense:
            case Tense.PERFECT:
                with_etre = self.reflexive or self.infinitive in WITH_ETRE
                verb = french.conjugated("être" if with_etre else "avoir", Tense.PRESENT, person)
                participle = french.parts(self.infinitive)[3]
                if with_etre:
                    participle = french.agreed(participle, feminine=feminine, plural=person in (3, 5))
                elif agrees:
                    participle = french.agreed(participle, feminine="e" in agrees, plural="s" in agrees)
                behind = f"{adverb} {participle}"
            case Tense.NEAR_FUTURE:
                verb = french.conjugated("aller", Tense.PRESENT, person)
                behind = f"{adverb} {self.to(person, clitic)}"
                return f"{'ne' if no else ''} {verb} {no} {behind}"
            case _:
                verb = french.conjugated(self.infinitive, tense, person)
                behind = adverb
        return f"{'ne' if no else ''} {own} {clitic} {verb} {no} {behind}{self.tail}"

    def to(self, person: int, clitic: str = "") -> str:
        """Return the infinitive, with the pronouns in front."""
        own = "me te se nous vous se".split()[person] if self.reflexive else ""
        return f"{own} {clitic} {self.infinitive}{self.tail}"


class Verb(NamedTuple):
    """A verb of both languages."""

    english: EnglishVerb
    french: FrenchVerb


def _spaced(written: str) -> list[str]:
    return [part.replace("_", " ") for part in written.split(" ")]


def _entries(text: str) -> list[str]:
    return [" ".join(entry.split()) for entry in text.split(",")]


class Lexicon:
    """A lexicon holds the words by category."""

    def __init__(self, path: Path) -> None:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        self.nouns = {kind: [Noun.read(one) for one in _entries(text)] for kind, text in raw["nouns"].items()}
        self.adjectives = {
            kind: [Adjective.read(one) for one in _entries(text)] for kind, text in raw["adjectives"].items()
        }
        self.verbs = {kind: [_verb(one) for one in _entries(text)] for kind, text in raw["verbs"].items()}
        self.infinitives = [_verb(one) for one in _entries(raw["infinitives"]["all"])]
        self.countries = [tuple(_spaced(one.replace("/", " "))) for one in raw["countries"].split()]
        """English, French, and m, f, or p for a plural."""
        self.pairs = {kind: _pairs(words) for kind, words in raw["pairs"].items()}


def _verb(written: str) -> Verb:
    own, other = written.split(" ")
    return Verb(EnglishVerb.read(own), FrenchVerb.read(other))


def _pairs(words: str | list[str]) -> list[tuple[str, str]]:
    """Parse `cat/chat dog/chien`, with a lone word for both languages, or `["good night = bonne nuit"]`."""
    if isinstance(words, list):
        return [(own.strip(), other.strip()) for own, _, other in (one.partition("=") for one in words)]
    parted = (one.replace("_", " ").partition("/") for one in words.split())
    return [(own, other or own) for own, _, other in parted]
