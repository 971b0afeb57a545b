"""English sentences and the French translations: both sides of each clause come from the same choice of words.

A tenth of all pairs (a verb with its object, a noun with its adjective, a verb with its tense) is kept for held-out
sentences: each of those has at least one pair that training never shows.
"""

import json
import random
import re
from collections.abc import Iterator

from recipes.demo import english, french
from recipes.demo.clauses import Clauses, Object, joined
from recipes.demo.french import Tense, after
from recipes.demo.grammar import is_reserved
from recipes.demo.lexicon import FrenchVerb, Verb
from recipes.demo.phrases import LEXICON, UNSAID, Phrase

CARELESS = 0.1
"""Share of training sentences without a final stop or a capital, as people type."""
ENDS = ((".", "."), ("!", " !"), (", please.", ", s'il vous plaît."))
PLURAL_ARTICLES = ("les", "mes", "ces", "ses", "vos", "nos", "leurs", "tous", "toutes")


class Sentences(Clauses):
    """A writer of sentences, with final stops but without elisions and capitals."""

    def sentence(self) -> Phrase:
        """Write a statement, a question, an order, or a polite phrase."""
        kinds = [self.set_phrase, self.question, self.where_is, self.what_or_who, self.order, self.polite]
        kinds += [self.two_clauses, self.thought, self.statement]
        [chosen] = self.rng.choices(kinds, weights=[5, 9, 3, 4, 7, 8, 9, 4, 51])
        return chosen()

    def set_phrase(self) -> Phrase:
        """Write a set phrase: "how are you?"."""
        return self.pair("phrases")

    def statement(self) -> Phrase:
        """Write a clause with a final stop."""
        return _ended(self.clause())

    def two_clauses(self) -> Phrase:
        """Write two clauses: "she is tired because she works a lot"."""
        one, two, joint = self.clause(), self.clause(), self.pair("joining")
        return _ended(
            Phrase(
                f"{one.english} {joint.english} {two.english}".replace(" ,", ","),
                f"{one.french} {joint.french} {two.french}".replace(" ,", ","),
            )
        )

    def thought(self) -> Phrase:
        """Write a thought: "I think that it is raining"."""
        own, other = self.rng.choice(LEXICON.pairs["thinking"])
        verb = Verb(english.EnglishVerb.read(own), FrenchVerb.read(other))
        subject, clause = self.subject(), self.clause()
        no = "pas" if own == "know" and self.maybe(0.3) else ""
        does, fait = self.predicate(Object(verb), subject, Tense.PRESENT, no, progressive=False)
        that = "that" if no or self.maybe(0.5) else ""
        return _ended(
            Phrase(
                joined(subject.english, does, that, clause.english), joined(subject.french, fait, "que", clause.french)
            )
        )

    # Questions

    def question(self) -> Phrase:
        """Write a question: "does she work here?", "why are you crying?"."""
        subject = self.subject()
        followed = self.object("", subject)
        tense, progressive = self.tense_for(followed.verb)
        if tense is Tense.IMPERFECT and not progressive:  # "did he use to" is rarely said
            tense = Tense.PRESENT
        does, fait = self._asked(followed, subject, tense, progressive=progressive)
        word = self.pair("question_words") if self.maybe(0.6) else UNSAID
        time = UNSAID if word.english == "when" else self.time(tense)
        own = joined(word.english, does, followed.english, time.english)
        return Phrase(f"{own}?", joined(word.french, "est-ce que", fait, followed.french, time.french) + " ?")

    def _asked(self, followed: Object, subject: Phrase, tense: Tense, *, progressive: bool) -> tuple[str, str]:
        """Return subject and verb in the order of a question."""
        verb = followed.verb
        self.pairs.append(f"{verb.french.name} {tense} ")
        does, rest = english.finite(verb.english, tense, subject.person, negative=False, progressive=progressive)
        fait = verb.french.finite(
            tense, subject.person, clitic=followed.clitic, feminine=subject.feminine, agrees=followed.ending
        )
        return joined(does, subject.english, rest + verb.english.particle), joined(subject.french, fait)

    def where_is(self) -> Phrase:
        """Ask for a place: "where is the station?"."""
        phrase = self.noun_phrase("person thing place animal", subject=True)
        if phrase.french.split()[0] not in (*PLURAL_ARTICLES, "le", "la") and "'" not in phrase.french:
            return self.question()
        is_ = english.to_be(Tense.PRESENT, phrase.person)
        return Phrase(f"where {is_} {phrase.english}?", f"où {'sont' if phrase.plural else 'est'} {phrase.french} ?")

    def what_or_who(self) -> Phrase:
        """Ask for a thing, a person or a number: "what are you eating?", "who is singing?", "how many cats ...?"."""
        tense = self.rng.choice((Tense.PRESENT, Tense.PRESENT, Tense.PERFECT, Tense.FUTURE))
        draw = self.rng.random()
        if draw < 0.3:
            followed = Object(self.rng.choice(LEXICON.verbs["alone"]))
            progressive = tense is Tense.PRESENT and self.maybe(0.6)
            own, other = self.predicate(followed, Phrase("who", "qui"), tense, "", progressive=progressive)
            return Phrase(joined("who", own) + "?", joined("qui", other) + " ?")
        kind = self.rng.choice("food thing text".split())
        verb = self.rng.choice([one for one in LEXICON.verbs[kind] if not one.french.preposition])
        subject = self.subject()
        if draw < 0.7:
            own, other = "what", "qu'est-ce que"
        else:
            tense = Tense.FUTURE if tense is Tense.PERFECT else tense  # its participle would agree
            noun = self.rng.choice(LEXICON.nouns[kind])
            own, other = f"how many {noun.english_plural}", f"combien de {noun.french_plural} est-ce que"
        progressive = tense is Tense.PRESENT and verb.english.base not in (
            "like",
            "hate",
            "want",
            "have",
            "own",
            "know",
        )
        does, fait = self._asked(Object(verb), subject, tense, progressive=progressive and self.maybe(0.5))
        return Phrase(f"{own} {does}?", joined(other, fait) + " ?")

    # Orders and wishes

    def order(self) -> Phrase:
        """Write an order: "open the door!", "do not run", "let's go to Paris"."""
        followed = self.object("", Phrase("you", "vous", 4))
        verb = followed.verb
        if followed.clitic or verb.french.reflexive or verb.french.infinitive in ("avoir", "vouloir", "posséder"):
            return self.order()
        bare = verb.english.base + verb.english.particle
        stop, point = self.rng.choice(ENDS)
        if self.maybe(0.25):
            fait = french.conjugated(verb.french.infinitive, Tense.PRESENT, 3) + verb.french.tail
            return Phrase(joined("let's", bare, followed.english) + stop, joined(fait, followed.french) + point)
        fait = french.conjugated(verb.french.infinitive, Tense.PRESENT, 4)
        if self.maybe(0.25):
            other = joined("ne", fait, "pas" + verb.french.tail, followed.french)
            return Phrase(joined("do not", bare, followed.english) + stop, other + point)
        return Phrase(joined(bare, followed.english) + stop, joined(fait + verb.french.tail, followed.french) + point)

    def polite(self) -> Phrase:
        """Write a polite phrase: "I would like a coffee, please"; "my name is Anna"."""
        draw = self.rng.random()
        if draw < 0.4:
            phrase = self.noun_phrase("food drink thing mass_food")
            asking = self.pair("asking_for")
            is_question = asking.french.startswith(("avez", "où", "puis"))
            stop, point = ("?", " ?") if is_question else self.rng.choice((ENDS[0], ENDS[2]))
            return Phrase(joined(asking.english, phrase.english) + stop, joined(asking.french, phrase.french) + point)
        if draw < 0.6:
            greeting, name = self.pair("before_names"), self.name()
            return _ended(Phrase(f"{greeting.english} {name.english}", f"{greeting.french} {name.french}"))
        if draw < 0.7:
            city, subject = self.pair("cities"), self.subject()
            own = joined(subject.english, english.to_be(Tense.PRESENT, subject.person), "from", city.english)
            vient = FrenchVerb.read("venir").finite(Tense.PRESENT, subject.person)
            return _ended(Phrase(own, joined(subject.french, vient, after("de", city.french))))
        phrase = self.noun_phrase("thing place text person animal abstract")
        if draw < 0.85:
            showing = self.pair("showing")
            return _ended(Phrase(f"{showing.english} {phrase.english}", f"{showing.french} {phrase.french}"))
        return phrase


def _ended(phrase: Phrase) -> Phrase:
    return Phrase(f"{phrase.english}.", f"{phrase.french}.")


def examples(rng: random.Random, *, held_out: bool = False) -> Iterator[tuple[str, str]]:
    """Yield English and French sentences without end."""
    while True:
        writer = Sentences(rng)
        phrase = writer.sentence()
        if any(map(is_reserved, writer.pairs)) != held_out:
            continue
        own, other = english.finish(phrase.english), french.finish(phrase.french)
        if writer.maybe(0.4):
            own = english.contracted(own)
        if not held_out and writer.maybe(CARELESS):
            own, other = _careless(own, other, writer)
        yield own, other


def _careless(own: str, other: str, writer: Sentences) -> tuple[str, str]:
    if writer.maybe(0.5) and not re.match(r"I\b|[A-Z]\w* (and [A-Z]|\w+s\b)", own):
        return own[:1].lower() + own[1:], other
    return (own[:-1], other.removesuffix(".")) if own.endswith(".") else (own, other)


def lines(rng: random.Random, *, held_out: bool = False) -> Iterator[str]:
    """Yield sentences and translations, as JSON."""
    for source, target in examples(rng, held_out=held_out):
        yield json.dumps({"source": source, "target": target}, ensure_ascii=False)
