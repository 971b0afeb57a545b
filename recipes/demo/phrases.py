"""Phrases in English and French with the same meaning: persons, things, places and times."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

from recipes.demo import french
from recipes.demo.english import with_article
from recipes.demo.french import Tense, after
from recipes.demo.grammar import Grammar
from recipes.demo.lexicon import Lexicon, Noun

WORDS = Path(__file__).parent / "words"
LEXICON = Lexicon(WORDS / "translation.toml")
NAMES = Grammar(WORDS / "entities.toml")
PRONOUNS = (("I", "je"), ("you", "vous"), ("he", "il"), ("she", "elle"), ("we", "nous"), ("they", "ils"))
PERSONS = (0, 4, 2, 2, 3, 5)
"""Persons of the pronouns, as in `french.conjugated`."""
POSSESSIVES = (
    ("my", "mon ma mes"),
    ("your", "votre votre vos"),
    ("his", "son sa ses"),
    ("her", "son sa ses"),
    ("our", "notre notre nos"),
    ("their", "leur leur leurs"),
)
UNCOUNTED = ("mass", "mass_food", "drink")
"""Kinds of nouns without an English plural."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words in both languages with the same meaning."""

    english: str
    french: str
    person: int = 2
    """Person of the verb in both, 0 to 5, as in `french.conjugated`; 4 is a vous said to one man."""
    feminine: bool = False
    plural: bool = False
    """Number, in French, of the words that agree with the phrase."""
    name: str = ""
    """The noun of the phrase."""
    negated: tuple[str, str] | None = None
    """The form of an object under negation, if different: "any bread", "de pain"."""


UNSAID = Phrase("", "")


class Phrases:
    """A writer of phrases; the text depends on the random generator alone."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.pairs: list[str] = []
        """Combinations of words, some reserved for held-out sentences."""

    def maybe(self, probability: float) -> bool:
        """Return True with the given probability."""
        return self.rng.random() < probability

    def pair(self, kind: str) -> Phrase:
        """Draw a pair of words of a kind."""
        return Phrase(*self.rng.choice(LEXICON.pairs[kind]))

    # Nouns

    def noun_phrase(self, kinds: str, *, subject: bool = False, plain: bool = False) -> Phrase:
        """Write a noun phrase: the old house, two cats, some bread; `plain` leaves out the adjective."""
        kind = self.rng.choice(kinds.split())
        noun = self.rng.choice(LEXICON.nouns[kind])
        if kind in UNCOUNTED:
            return self._uncounted(noun, subject=subject)
        plural = self.maybe(0.25) and noun.english != noun.english_plural
        many = plural or noun.plural_only
        own, other = (noun.english_plural if plural else noun.english), (noun.french_plural if many else noun.french)
        precedes = False
        if not plain and self.maybe(0.32):
            adjective = self.rng.choice([*LEXICON.adjectives.get(kind, []), *LEXICON.adjectives["all"]])
            self.pairs.append(f"{noun.french} {adjective.masculine}")
            precedes = adjective.precedes
            agreed = adjective.agreed(feminine=noun.feminine, plural=many, noun=other if precedes else "")
            own, other = f"{adjective.english} {own}", f"{agreed} {other}" if precedes else f"{other} {agreed}"
        base = Phrase(own, other, 5 if plural else 2, noun.feminine, many, noun.french)
        return self._determined(base, plural=plural, precedes=precedes, subject=subject)

    def _determined(self, base: Phrase, *, plural: bool, precedes: bool, subject: bool) -> Phrase:
        """Add an article or other determiner; `plural` is for the English noun, base.plural for the French."""
        own, other = base.english, base.french
        match self.rng.choice("the the the the a a a my my this number many every".split()):
            case "a" if not base.plural:
                un = f"{'une' if base.feminine else 'un'} {other}"
                return replace(base, english=with_article(own), french=un, negated=(with_article(own), f"de {other}"))
            case "a" if plural:
                some = f"{'de' if precedes else 'des'} {other}"
                return replace(base, english=f"some {own}", french=some, negated=(f"any {own}", f"de {other}"))
            case "my":
                word, forms = self.rng.choice(POSSESSIVES)
                return replace(base, english=f"{word} {own}", french=f"{_agreed_determiner(forms, base)} {other}")
            case "this":
                word = self.rng.choice(("these", "those") if plural else ("this", "that"))
                ce = "cet" if french.begins_with_vowel(other) else "ce"
                return replace(
                    base, english=f"{word} {own}", french=f"{_agreed_determiner(f'{ce} cette ces', base)} {other}"
                )
            case "number" if plural:
                return self._counted(base, self.pair("numbers"))
            case "many" if plural:
                all_ = Phrase("all the", "toutes les" if base.feminine else "tous les")
                return self._counted(base, all_ if self.maybe(0.2) else self.pair("many"))
            case "every" if subject and not base.plural:
                return replace(base, english=f"every {own}", french=f"chaque {other}")
        return replace(base, english=f"the {own}", french=the(base))

    @staticmethod
    def _counted(base: Phrase, count: Phrase) -> Phrase:
        return replace(base, english=f"{count.english} {base.english}", french=f"{count.french} {base.french}")

    def _uncounted(self, noun: Noun, *, subject: bool) -> Phrase:
        base = Phrase(noun.english, noun.french, 2, noun.feminine, noun.plural_only, noun.french)
        if subject or self.maybe(0.35):
            return replace(base, english=f"the {noun.english}", french=the(base))
        if self.maybe(0.15):
            return self._counted(base, self.pair("much"))
        some = self.rng.choice(("some ", "")) + noun.english
        du = f"des {noun.french}" if noun.plural_only else after("de", the(base))
        negated = (self.rng.choice(("any ", "")) + noun.english, f"de {noun.french}")
        return replace(base, english=some, french=du, negated=negated)

    def in_general(self, kind: str) -> Phrase:
        """Write a noun in a general sense: football, the piano, cats."""
        noun = self.rng.choice(LEXICON.nouns[kind])
        many = noun.plural_only or kind in ("animal", "food", "abstract")
        base = Phrase("", noun.french_plural if many else noun.french, feminine=noun.feminine, plural=many)
        own = f"the {noun.english}" if kind == "instrument" else noun.english_plural if many else noun.english
        return replace(base, english=noun.english if noun.plural_only else own, french=the(base))

    def name(self) -> Phrase:
        """Draw a person's name; every fifth is new, for the model to copy."""
        if self.maybe(0.2):
            new = NAMES.write("new_first", self.rng).text
            return Phrase(new, new)
        is_woman = self.maybe(0.5)
        return replace(self.pair("women" if is_woman else "men"), feminine=is_woman)

    def subject(self, kind: str = "person") -> Phrase:
        """Write a subject: a pronoun, somebody's name, or a noun of the kind."""
        draw = self.rng.random()
        if kind == "person" and draw < 0.55:
            index = self.rng.randrange(len(PRONOUNS))
            (own, other), person = PRONOUNS[index], PERSONS[index]
            return Phrase(own, other, person, own == "she", person in (3, 5))
        if kind == "person" and draw < 0.6:
            one, two = self.name(), self.name()
            own, other = f"{one.english} and {two.english}", f"{one.french} et {two.french}"
            return Phrase(own, other, 5, one.feminine and two.feminine, plural=True)
        if kind == "person" and draw < 0.72:
            return self.name()
        return self.noun_phrase(kind, subject=True)

    # Places and times

    def place(self, *, motion: bool = False) -> Phrase:
        """Write a place: to the market, in Paris, under the table."""
        draw = self.rng.random()
        if draw < 0.2:
            city = self.pair("cities")
            return Phrase(f"{'to' if motion else 'in'} {city.english}", after("à", city.french))
        if draw < 0.35:
            country, pays, gender = self.rng.choice(LEXICON.countries)
            into = {"p": "aux", "m": "au", "f": "en"}[gender]
            return Phrase(f"{'to' if motion else 'in'} {country}", f"{into} {pays}")
        at = "to" if motion else "at"
        if motion or draw < 0.5:
            where = Phrase(at, "à")
        else:
            where = self.pair("beside_things" if draw > 0.85 else "beside_places")
        noun = self.rng.choice(LEXICON.nouns["thing" if draw > 0.85 and not motion else "place"])
        base = Phrase(noun.english, noun.french, feminine=noun.feminine)
        return Phrase(f"{where.english} the {noun.english}", after(where.french, the(base)))

    def time(self, tense: Tense) -> Phrase:
        """Write a time in keeping with the tense; often empty."""
        if not self.maybe(0.3):
            return UNSAID
        kind = {Tense.PERFECT: "past", Tense.FUTURE: "future", Tense.NEAR_FUTURE: "future"}.get(tense, "present")
        return self.pair("hours" if self.maybe(0.12) else kind)


def the(base: Phrase) -> str:
    """Return French words with the definite article."""
    if base.plural:
        return f"les {base.french}"
    if french.begins_with_vowel(base.french):
        return f"l'{base.french}"
    return f"{'la' if base.feminine else 'le'} {base.french}"


def _agreed_determiner(forms: str, base: Phrase) -> str:
    """Choose mon, ma or mes; mon also stands before a vowel."""
    masculine, feminine, plural = forms.split()
    if base.plural:
        return plural
    as_masculine = masculine in ("mon", "son") and french.begins_with_vowel(base.french)
    return feminine if base.feminine and not as_masculine else masculine
