"""Clauses in English and French with the same meaning: actions and descriptions."""

import re

from recipes.demo import english, french
from recipes.demo.french import Tense, after
from recipes.demo.lexicon import FrenchVerb, Verb
from recipes.demo.phrases import LEXICON, PERSONS, POSSESSIVES, PRONOUNS, UNSAID, Phrase, Phrases, the

STATES = "love like hate know understand want need have own prefer believe remember be hope forget".split()
"""English verbs without a progressive."""
OBJECT_PRONOUNS = (
    ("me", "me", "me", "moi", ""),
    ("you", "vous", "vous", "vous", ""),
    ("him", "le", "lui", "lui", ""),
    ("her", "la", "lui", "elle", "e"),
    ("us", "nous", "nous", "nous", ""),
    ("them", "les", "leur", "eux", "s"),
)
"""In the order of PRONOUNS: English, direct, indirect, behind a preposition, and the ending of a participle."""
TENSES = [*[Tense.PRESENT] * 5, *[Tense.PERFECT] * 3, Tense.FUTURE, Tense.FUTURE, Tense.NEAR_FUTURE, Tense.IMPERFECT]
KINDS = """food food mass_food drink thing thing thing text text person person person animal place abstract mass go live
sport instrument in_general give tell alone alone alone""".split()
"""Kinds of verbs; a kind listed twice is twice as frequent."""


class Object:
    """A verb and the words after the verb, in both languages."""

    def __init__(self, verb: Verb, own: str = "", other: str = "", clitic: str = "", ending: str = "") -> None:
        self.verb = verb
        self.english, self.french = own, other
        self.clitic = clitic
        """The pronoun before the French verb."""
        self.ending = ending
        """Ending of a participle that agrees with the object."""


class Clauses(Phrases):
    """A writer of clauses."""

    def clause(self) -> Phrase:
        """Write a statement without the final stop."""
        kinds = [self.being, self.there_is, self.with_infinitive, self.state, self.weather, self.by_animal, self.doing]
        [chosen] = self.rng.choices(kinds, weights=[20, 5, 15, 4, 3, 6, 47])
        return chosen()

    def weather(self) -> Phrase:
        """Write about the weather: "it is raining"."""
        return self.pair("weather")

    # Doing

    def doing(self) -> Phrase:
        """Write an action: "she never gave him the book"."""
        no = self.rng.choice(("pas", "pas", "pas", "jamais", "plus")) if self.maybe(0.22) else ""
        subject = self.subject()
        followed = self.object(no, subject)
        tense, progressive = self.tense_for(followed.verb)
        if no and tense is Tense.IMPERFECT and not progressive:  # "did not use to" is rarely said
            tense = Tense.PERFECT
        often = not no and tense is Tense.PRESENT and not progressive and self.maybe(0.15)
        adverb = self.pair("adverbs") if often else UNSAID
        return self._statement(subject, followed, tense, no, progressive=progressive, adverb=adverb)

    def by_animal(self) -> Phrase:
        """Write an animal's action: "the cat is sleeping"."""
        subject = self.subject("animal")
        if self.maybe(0.4):
            verb = self.rng.choice(
                [one for one in LEXICON.verbs["food"] if one.english.base in ("eat", "steal", "like", "smell")]
            )
            followed = self._about(verb, self.noun_phrase("food"), "")
        else:
            followed = Object(self.rng.choice(LEXICON.verbs["animal_alone"]))
        tense, progressive = self.tense_for(followed.verb)
        return self._statement(subject, followed, tense, "", progressive=progressive)

    def _statement(
        self,
        subject: Phrase,
        followed: Object,
        tense: Tense,
        no: str,
        *,
        progressive: bool,
        adverb: Phrase = UNSAID,
    ) -> Phrase:
        does, fait = self.predicate(followed, subject, tense, no, progressive=progressive, adverb=adverb)
        return self.assembled(subject, (does, followed.english), (fait, followed.french), tense)

    def assembled(self, subject: Phrase, own: tuple[str, ...], other: tuple[str, ...], tense: Tense) -> Phrase:
        """Assemble a clause with a time, or a place, or neither."""
        around = self.time(tense)
        if not around.english and self.maybe(0.12):
            around = self.place()
        return Phrase(joined(subject.english, *own, around.english), joined(subject.french, *other, around.french))

    def predicate(
        self,
        followed: Object,
        subject: Phrase,
        tense: Tense,
        no: str,
        *,
        progressive: bool,
        adverb: Phrase = UNSAID,
    ) -> tuple[str, str]:
        """Write the verb of both languages, without the rest of the clause."""
        verb = followed.verb
        self.pairs.append(f"{verb.french.name} {tense} {no}")
        word = {"jamais": "never ", "plus": "no longer "}.get(no, f"{adverb.english} ")
        negative = no == "pas"
        own = english.statement(verb.english, tense, subject.person, negative=negative, progressive=progressive)
        if (" " in own and not negative and tense is not Tense.IMPERFECT) or progressive:
            own = own if negative else own.replace(" ", f" {word}", 1)
        else:
            own = f"{word}{own}"
        other = verb.french.finite(
            tense, subject.person, no, followed.clitic, adverb.french, feminine=subject.feminine, agrees=followed.ending
        )
        return joined(own) + verb.english.particle, other

    def tense_for(self, verb: Verb) -> tuple[Tense, bool]:
        """Draw a tense, and whether English has the progressive."""
        tense = self.rng.choice([*TENSES, Tense.CONDITIONAL])
        may = verb.english.base not in STATES and tense in (Tense.PRESENT, Tense.IMPERFECT)
        return tense, may and self.maybe(0.5 if tense is Tense.PRESENT else 0.7)

    def object(self, no: str, subject: Phrase) -> Object:
        """Write a verb with all required complements."""
        kind = self.rng.choice(KINDS)
        verb = self.rng.choice(LEXICON.verbs["food" if kind == "mass_food" else kind])
        match kind:
            case "alone":
                return Object(verb)
            case "go" | "live":
                place = self.place(motion=kind == "go")
                return Object(verb, place.english, place.french)
            case "sport" | "instrument":
                return self._about(verb, self.in_general(kind), "")
            case "in_general":
                return self._about(
                    verb, self.in_general(self.rng.choice("animal food drink mass sport abstract".split())), ""
                )
            case "give" | "tell":
                return self._to_somebody(verb, self.noun_phrase("thing" if kind == "give" else "text"), no, subject)
            case "person":
                if self.maybe(0.35):
                    return self._about_pronoun(verb, subject)
                return self._about(verb, self.name() if self.maybe(0.3) else self.noun_phrase(kind), no)
        return self._about(verb, self.noun_phrase(kind), no)

    def _about(self, verb: Verb, phrase: Phrase, no: str) -> Object:
        self.pairs.append(f"{verb.french.name} {phrase.name}")
        preposition = verb.french.preposition
        own, other = phrase.english, phrase.french
        if no and phrase.negated and not preposition:
            own, other = phrase.negated
        return Object(verb, own, after(preposition, other) if preposition else other)

    def _pronoun(self, subject: Phrase) -> tuple[str, str, str, str, str]:
        """Draw a pronoun with a referent other than the subject."""
        return self.rng.choice(
            [
                one
                for one, person in zip(OBJECT_PRONOUNS, PERSONS, strict=True)
                if person in (2, 5) or (person == 4) != (subject.person == 4)
            ]
        )

    def _about_pronoun(self, verb: Verb, subject: Phrase) -> Object:
        own, direct, indirect, stressed, ending = self._pronoun(subject)
        preposition = verb.french.preposition
        if not preposition:
            return Object(verb, own, clitic=direct, ending=ending)
        if preposition == "à" and verb.french.infinitive not in ("penser", "rendre"):
            return Object(verb, own, clitic=indirect)
        return Object(verb, own, f"{preposition} {stressed}")

    def _to_somebody(self, verb: Verb, given: Phrase, no: str, subject: Phrase) -> Object:
        self.pairs.append(f"{verb.french.name} {given.name}")
        own, other = given.negated if no and given.negated else (given.english, given.french)
        if self.maybe(0.5):
            to, _, clitic, *_ = self._pronoun(subject)
            behind = verb.english.particle or verb.english.base == "explain"
            return Object(verb, f"{own} to {to}" if behind else f"{to} {own}", other, clitic)
        person = self.name() if self.maybe(0.5) else self.noun_phrase("person", plain=True)
        return Object(verb, f"{own} to {person.english}", f"{other} {after('à', person.french)}")

    def with_infinitive(self) -> Phrase:
        """Write a clause with an infinitive: "I want to see it"; "she cannot swim"."""
        subject, no = self.subject(), "pas" if self.maybe(0.25) else ""
        followed = self.object(no, subject)
        to = followed.verb.french.to(subject.person, followed.clitic)
        bare = followed.verb.english.base + followed.verb.english.particle
        if self.maybe(0.5):
            can, pouvoir = self.rng.choice(LEXICON.pairs["modals"])
            tense = {"could": Tense.IMPERFECT, "should": Tense.CONDITIONAL, "would like to": Tense.CONDITIONAL}.get(
                can, Tense.PRESENT
            )
            does = (
                can
                if not no
                else "cannot"
                if can == "can"
                else can.replace("would", "would not")
                if " " in can
                else f"{can} not"
            )
            fait, preposition = FrenchVerb.read(pouvoir).finite(tense, subject.person, no), ""
        else:
            outer = self.rng.choice(LEXICON.infinitives)
            tense = self.rng.choice((Tense.PRESENT, Tense.PRESENT, Tense.PERFECT, Tense.FUTURE))
            does, fait = self.predicate(Object(outer), subject, tense, no, progressive=False)
            preposition = outer.french.preposition
        return self.assembled(subject, (does, bare, followed.english), (fait, preposition, to, followed.french), tense)

    # Being

    def being(self) -> Phrase:
        """Write a description: "the house is big"; "she was a teacher"; "it is a beautiful day"."""
        if self.maybe(0.12):
            return self.it_is()
        kind = self.rng.choice("person person person thing place food text animal".split())
        subject = self.subject(kind)
        is_, est = self._copula(subject)
        draw = self.rng.random()
        if kind == "person" and draw < 0.15:
            noun = self.rng.choice([one for one in LEXICON.nouns["person"] if one.english not in ("man", "woman")])
            plural = subject.person in (3, 5)
            own = noun.english_plural if plural else english.with_article(noun.english)
            return _both(subject, (is_, own), (est, noun.french_plural if plural else noun.french))
        if draw < 0.3:
            place = self.place()
            return _both(subject, (is_, place.english), (est, place.french))
        adjective = self.rng.choice([*LEXICON.adjectives[kind], *LEXICON.adjectives[kind], *LEXICON.adjectives["all"]])
        self.pairs.append(f"{subject.name} {adjective.masculine}")
        agreed = adjective.agreed(feminine=subject.feminine, plural=subject.plural)
        if draw > 0.92:
            than, que = self.rng.choice(LEXICON.pairs["comparing"])
            other = self.noun_phrase(kind)
            own = english.compared(than, adjective.english)
            return _both(subject, (is_, own, other.english), (est, french.compared(que, agreed), other.french))
        very = self.pair("intensifiers") if draw > 0.7 else UNSAID
        return _both(subject, (is_, very.english, adjective.english), (est, very.french, agreed))

    def _copula(self, subject: Phrase) -> tuple[str, str]:
        """Write is, was or will be, and the negation."""
        tense = self.rng.choice([Tense.PRESENT] * 6 + [Tense.IMPERFECT, Tense.IMPERFECT, Tense.FUTURE])
        no = self.rng.choice(("", "", "", "", "", "pas", "pas", "jamais", "plus"))
        word = {"": "", "pas": "not", "jamais": "never", "plus": "no longer"}[no]
        is_ = f"will {word} be" if tense is Tense.FUTURE else f"{english.to_be(tense, subject.person)} {word}"
        return is_, FrenchVerb.read("être").finite(tense, subject.person, no)

    def it_is(self) -> Phrase:
        """Write a judgement: "it was very interesting"; "this is my brother"."""
        it_is = self.pair("it_is")
        phrase = self.noun_phrase("person thing place animal text abstract")
        if self.maybe(0.4) and not phrase.plural:
            return _both(it_is, (phrase.english,), (phrase.french,))
        kind = self.rng.choice("text food thing all".split())
        adjective = self.rng.choice(LEXICON.adjectives[kind])
        very = self.pair("intensifiers") if self.maybe(0.4) else UNSAID
        return _both(it_is, (very.english, adjective.english), (very.french, adjective.masculine))

    def there_is(self) -> Phrase:
        """Write about existence: "there is a cat under the table"."""
        phrase, place = self.noun_phrase("person animal thing thing food mass_food place"), self.place()
        if phrase.negated is None:
            return self.being()
        are, were = ("are", "were") if phrase.person == 5 else ("is", "was")
        if self.maybe(0.25):
            no = re.sub("^(any|an?) ", "", phrase.negated[0])
            return Phrase(
                joined("there", are, "no", no, place.english), joined("il n'y a pas", phrase.negated[1], place.french)
            )
        is_, a = self.rng.choice(((are, "a"), (are, "a"), (were, "avait"), ("will be", "aura")))
        return Phrase(
            joined("there", is_, phrase.english, place.english), joined("il y", a, phrase.french, place.french)
        )

    def state(self) -> Phrase:
        """Write about a state: "I am hungry"; "she is twenty years old"; "my head hurts"."""
        if self.maybe(0.15):
            return self._pain()
        subject = self.subject()
        tense = self.rng.choice((Tense.PRESENT, Tense.PRESENT, Tense.IMPERFECT))
        be, avoir = english.to_be(tense, subject.person), FrenchVerb.read("avoir")
        if self.maybe(0.4):
            age = Phrase(*self.rng.choice([*LEXICON.pairs["numbers"][:-2], *LEXICON.pairs["ages"]]))
            return _both(
                subject, (be, age.english, "years old"), (avoir.finite(tense, subject.person), age.french, "ans")
            )
        state, no = self.pair("states"), "pas" if self.maybe(0.25) else ""
        other = re.sub("^de la ", "de ", state.french) if no else state.french
        return _both(
            subject, (be, "not" if no else "", state.english), (avoir.finite(tense, subject.person, no), other)
        )

    def _pain(self) -> Phrase:
        index = self.rng.randrange(len(PRONOUNS))
        noun = self.rng.choice([one for one in LEXICON.nouns["body"] if not one.plural_only])
        where = after("à", the(Phrase("", noun.french, feminine=noun.feminine)))
        avoir = FrenchVerb.read("avoir").finite(Tense.PRESENT, PERSONS[index])
        return Phrase(
            joined(POSSESSIVES[index][0], noun.english, "hurts"), joined(PRONOUNS[index][1], avoir, "mal", where)
        )


def joined(*words: str) -> str:
    """Join words with a single space."""
    return " ".join(" ".join(words).split())


def _both(subject: Phrase, own: tuple[str, ...], other: tuple[str, ...]) -> Phrase:
    return Phrase(joined(subject.english, *own), joined(subject.french, *other))
