"""English for the translator's sentences: plurals, third persons, past tenses, and the auxiliaries."""

import re
from typing import NamedTuple

from recipes.demo.french import Tense


class EnglishVerb(NamedTuple):
    """An English verb, such as `wait for`; the particle follows the verb."""

    base: str
    past: str
    participle: str
    particle: str = ""

    @classmethod
    def read(cls, written: str) -> "EnglishVerb":
        """Parse `eat/ate/eaten` or a regular verb, with `:` before the particle."""
        forms, _, particle = written.replace("_", " ").partition(":")
        if "/" in forms:
            base, past, participle = forms.split("/")
        else:
            base = forms
            past = participle = _with_ed(base)
        return cls(base, past, participle, f" {particle}" if particle else "")

    @property
    def third(self) -> str:
        """Return the third person: he works, goes, tries."""
        return {"have": "has", "be": "is", "do": "does", "go": "goes"}.get(self.base) or plural_of(self.base)

    @property
    def gerund(self) -> str:
        """Return the gerund: working, writing, running."""
        base = self.base
        if base in ("lie", "die"):
            return base[:-2] + "ying"
        if re.search(r"[^eyo]e$", base):
            return base[:-1] + "ing"
        return (base + base[-1] if _doubles(base) else base) + "ing"


def _doubles(base: str) -> bool:
    """Return whether the last letter doubles: stop, forget, but not open."""
    short = re.search(r"^[^aeiou]*[aeiou][bdgklmnprt]$", base) or base in ("forget", "begin", "prefer", "permit")
    return bool(short)


def _with_ed(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if re.search(r"[^aeiou]y$", base):
        return base[:-1] + "ied"
    return (base + base[-1] if _doubles(base) else base) + "ed"


def plural_of(singular: str) -> str:
    """Return the regular plural of a noun, or the third person of a verb by the same rule."""
    if re.search(r"(s|x|ch|sh|z|[^aeiou]o)$", singular) and singular not in ("photo", "piano", "kilo"):
        return singular + "es"
    if re.search(r"[^aeiou]y$", singular):
        return singular[:-1] + "ies"
    return singular + "s"


def with_article(words: str) -> str:
    """Put "a" or "an" before a noun."""
    an = re.match(r"(?i)(?!uni|use|euro|one\b)[aeiou]|hour|honest", words)
    return f"{'an' if an else 'a'} {words}"


def to_be(tense: Tense, person: int) -> str:
    """Conjugate "be": am, are, is, was, were; `person` as in `french.conjugated`."""
    if tense is Tense.PRESENT:
        return "am are is are are are".split()[person]
    return "was were was were were were".split()[person]


def finite(verb: EnglishVerb, tense: Tense, person: int, *, negative: bool, progressive: bool) -> tuple[str, str]:
    """Return (auxiliary, rest) of a verb phrase; questions put the subject between; a plain phrase has "does"."""
    no = " not" if negative else ""
    third = person == 2
    match tense:
        case Tense.PRESENT | Tense.IMPERFECT if progressive:
            return to_be(tense, person) + no, verb.gerund
        case Tense.PRESENT:
            return ("does" if third else "do") + no, verb.base
        case Tense.IMPERFECT:
            return ("did" + no, f"use to {verb.base}")
        case Tense.PERFECT:
            return "did" + no, verb.base
        case Tense.FUTURE:
            return "will" + no, verb.base
        case Tense.NEAR_FUTURE:
            return to_be(Tense.PRESENT, person) + no, f"going to {verb.base}"
        case Tense.CONDITIONAL:
            return "would" + no, verb.base


def statement(verb: EnglishVerb, tense: Tense, person: int, *, negative: bool, progressive: bool) -> str:
    """Return the verb phrase after the subject."""
    if not negative and not progressive:
        match tense:
            case Tense.PRESENT:
                return verb.third if person == 2 else verb.base
            case Tense.PERFECT:
                return verb.past
            case Tense.IMPERFECT:
                return f"used to {verb.base}"
    return " ".join(finite(verb, tense, person, negative=negative, progressive=progressive))


def compared(than: str, adjective: str) -> str:
    """Insert an adjective in `more {} than`: more beautiful than, but bigger than."""
    if not than.startswith("more") or len(adjective) > 5 or adjective in NOT_LONGER:
        return than.format(adjective)
    if adjective in ("good", "bad"):
        return f"{'better' if adjective == 'good' else 'worse'} than"
    if adjective.endswith("y"):
        return f"{adjective[:-1]}ier than"
    if adjective.endswith("e"):
        return f"{adjective}r than"
    return f"{adjective + adjective[-1] if _doubles(adjective) else adjective}er than"


NOT_LONGER = (
    "false",
    "ready",
    "right",
    "alone",
    "lost",
    "dead",
    "wild",
    "open",
    "ripe",
    "raw",
    "tired",
    "proud",
    "brave",
)
"""Short adjectives that take "more"."""


def finish(text: str) -> str:
    """Return a sentence with the capital."""
    return text[:1].upper() + text[1:]


CONTRACTIONS = (
    ("do not", "don't"), ("does not", "doesn't"), ("did not", "didn't"), ("is not", "isn't"),
    ("are not", "aren't"), ("was not", "wasn't"), ("were not", "weren't"), ("will not", "won't"),
    ("would not", "wouldn't"), ("cannot", "can't"), ("I am", "I'm"), ("he is", "he's"),
    ("she is", "she's"), ("it is", "it's"), ("they are", "they're"), ("we are", "we're"),
    ("you are", "you're"), ("I will", "I'll"), ("he will", "he'll"), ("she will", "she'll"),
    ("we will", "we'll"), ("they will", "they'll"), ("you will", "you'll"), ("there is", "there's"),
    ("I would", "I'd"), ("what is", "what's"), ("where is", "where's"), ("must not", "mustn't"),
    ("could not", "couldn't"),
)  # fmt: skip


def contracted(text: str) -> str:
    """Contract as in speech: don't, I'm, she'll."""
    for full, short in CONTRACTIONS:
        for one, other in ((full, short), (finish(full), finish(short))):
            text = re.sub(rf"\b{one}\b(?= \w)", other, text)
    return text
