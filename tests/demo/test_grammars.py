"""Training data of the demo models: sentences with grammatical agreement, and a held-out tenth apart from the rest."""

import json
import random
import re
from itertools import islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes.demo import english, entities, french, sentiment, stories, translation
from recipes.demo.clauses import Clauses
from recipes.demo.data import CORPORA
from recipes.demo.french import Tense
from recipes.demo.grammar import is_reserved
from recipes.demo.phrases import LEXICON, Phrases

SEEDS = st.integers(0, 2**32)
VERBS = sorted({verb.french.infinitive for verbs in LEXICON.verbs.values() for verb in verbs})


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("held_out", [False, True])
def test_the_same_seed_writes_the_same(name: str, held_out: bool) -> None:
    one, two = (list(islice(CORPORA[name].examples(random.Random(5), held_out=held_out), 20)) for _ in range(2))
    assert one == two
    assert len(set(one)) > 10


@pytest.mark.parametrize(
    ("infinitive", "tense", "forms"),
    [
        ("manger", Tense.PRESENT, "mange manges mange mangeons mangez mangent"),
        ("manger", Tense.IMPERFECT, "mangeais mangeais mangeait mangions mangiez mangeaient"),
        ("commencer", Tense.PRESENT, "commence commences commence commençons commencez commencent"),
        ("acheter", Tense.FUTURE, "achèterai achèteras achètera achèterons achèterez achèteront"),
        ("préférer", Tense.PRESENT, "préfère préfères préfère préférons préférez préfèrent"),
        ("préférer", Tense.FUTURE, "préférerai préféreras préférera préférerons préférerez préféreront"),
        ("appeler", Tense.PRESENT, "appelle appelles appelle appelons appelez appellent"),
        ("nettoyer", Tense.PRESENT, "nettoie nettoies nettoie nettoyons nettoyez nettoient"),
        ("envoyer", Tense.FUTURE, "enverrai enverras enverra enverrons enverrez enverront"),
        ("finir", Tense.PRESENT, "finis finis finit finissons finissez finissent"),
        ("vendre", Tense.PRESENT, "vends vends vend vendons vendez vendent"),
        ("être", Tense.IMPERFECT, "étais étais était étions étiez étaient"),
        ("devenir", Tense.PRESENT, "deviens deviens devient devenons devenez deviennent"),
        ("apprendre", Tense.CONDITIONAL, "apprendrais apprendrais apprendrait apprendrions apprendriez apprendraient"),
        ("voir", Tense.FUTURE, "verrai verras verra verrons verrez verront"),
        ("suivre", Tense.PRESENT, "suis suis suit suivons suivez suivent"),
    ],
)  # fmt: skip
def test_conjugation(infinitive: str, tense: Tense, forms: str) -> None:
    assert [french.conjugated(infinitive, tense, person) for person in range(6)] == forms.split()


@pytest.mark.parametrize("infinitive", VERBS)
def test_endings(infinitive: str) -> None:
    """Endings are common to all French verbs."""
    imperfect = [french.conjugated(infinitive, Tense.IMPERFECT, person) for person in range(6)]
    assert [form[-3:] for form in imperfect][2::3] == ["ait", "ent"]
    future = [french.conjugated(infinitive, Tense.FUTURE, person) for person in range(6)]
    assert all("r" in form[-5:] for form in future)
    if infinitive not in ("être", "dire", "faire"):
        assert french.conjugated(infinitive, Tense.PRESENT, 4).endswith("ez")
    assert french.conjugated(infinitive, Tense.PRESENT, 5).endswith(("ent", "ont"))


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("je ai", "J'ai"),
        ("je ne ai pas le idée", "Je n'ai pas l'idée"),
        ("puis-je avoir", "Puis-je avoir"),
        ("le *héros", "Le héros"),
        ("si il vient", "S'il vient"),
    ],
)
def test_elision(own: str, other: str) -> None:
    assert french.finish(own) == other


@pytest.mark.parametrize(
    ("preposition", "words", "expected"),
    [
        ("à", "le marché", "au marché"),
        ("à", "les enfants", "aux enfants"),
        ("près de", "le lac", "près du lac"),
        ("de", "l'ami", "de l'ami"),
        ("de", "du pain", "de pain"),
        ("dans", "le jardin", "dans le jardin"),
    ],
)
def test_contraction(preposition: str, words: str, expected: str) -> None:
    assert french.after(preposition, words) == expected


@given(SEEDS)
@settings(max_examples=300)
def test_articles_agree(seed: int) -> None:
    phrase = Phrases(random.Random(seed)).noun_phrase("person animal thing food place text abstract mass drink")
    article, *rest = phrase.french.removeprefix("un peu ").split()
    if article in ("un", "le", "ce", "cet", "du"):
        assert (phrase.feminine, phrase.plural) == (False, False)
    if article in ("une", "la", "ma", "sa", "cette"):
        assert (phrase.feminine, phrase.plural) == (True, False)
    if article in ("les", "des", "mes", "ses", "ces", "vos", "nos", "leurs"):
        assert phrase.plural
    if article in ("mon", "son"):
        assert not phrase.feminine or french.begins_with_vowel(rest[0])


@given(SEEDS, st.sampled_from(["person", "animal", "thing", "food", "place", "text"]))
@settings(max_examples=300)
def test_adjectives_agree(seed: int, kind: str) -> None:
    """Each adjective in a phrase stands in the form that agrees with the noun."""
    phrase = Phrases(random.Random(seed)).noun_phrase(kind)
    rest = phrase.french.replace(phrase.name, "").split()
    for adjective in LEXICON.adjectives[kind]:
        forms = {
            adjective.agreed(feminine=feminine, plural=plural) for feminine in (False, True) for plural in (False, True)
        }
        own = adjective.agreed(feminine=phrase.feminine, plural=phrase.plural)
        if f" {adjective.english} " in phrase.english and forms & set(rest):
            assert own in rest


@given(SEEDS, st.booleans())
@settings(max_examples=500)
def test_no_french_sentence_breaks_a_rule_of_spelling(seed: int, held_out: bool) -> None:
    own, other = next(translation.examples(random.Random(seed), held_out=held_out))
    # le and les before an infinitive are pronouns, and do not contract
    assert not re.search(r"\b(de|à) les? (?!\w*(er|ir|re)\b)", other)
    # nothing is elided before onze
    assert not re.search(r"(?i)(?<!-)\b(je|ne|de|que|le|la|se|me|te) (?!onze\b)[aeiouéèêâîôû]", other)
    assert not re.search(r"  | [.,]|\*|_", other)
    assert not re.search(r"  |\*|_|\ba [aeio]", own)
    assert other[:1] == other[:1].upper()
    assert other.endswith("?") == own.endswith("?")


@given(SEEDS)
@settings(max_examples=300)
def test_subjects_and_english_verbs_agree(seed: int) -> None:
    writer = Clauses(random.Random(seed))
    subject = writer.subject()
    followed = writer.object("", subject)
    own, _ = writer.predicate(followed, subject, Tense.PRESENT, "", progressive=False)
    verb = followed.verb.english
    assert own == (verb.third if subject.person == 2 else verb.base) + verb.particle


@given(SEEDS)
@settings(max_examples=300)
def test_held_out_sentences_have_a_pair_that_training_has_not(seed: int) -> None:
    sentences = translation.Sentences(random.Random(seed))
    sentences.sentence()
    rng = random.Random(seed)
    trained = next(translation.examples(rng))
    assert trained != next(translation.examples(random.Random(seed), held_out=True))
    assert all(map(str.strip, sentences.pairs))


@given(SEEDS)
@settings(max_examples=200)
def test_stories_hold_together(seed: int) -> None:
    story = next(stories.lines(random.Random(seed)))
    assert story.count('"') % 2 == 0
    assert not re.search(r"[{}\[\]|]|  |\ba [aeio]\w|\.\.", story)
    assert re.search(r'[.!"]$', story)
    assert story[0].isupper()


@given(SEEDS, st.booleans())
@settings(max_examples=300)
def test_tags_are_whole(seed: int, held_out: bool) -> None:
    block = next(entities.lines(random.Random(seed), held_out=held_out))
    tags = [line.split(" ")[1] for line in block.splitlines()]
    assert tags
    for before, tag in zip(["O", *tags], tags, strict=False):
        if tag.startswith("I-"):
            assert before[1:] == tag[1:]


@given(SEEDS)
@settings(max_examples=200)
def test_sentiment_is_plain_text_with_one_of_three_labels(seed: int) -> None:
    row: dict[str, Any] = json.loads(next(sentiment.lines(random.Random(seed))))
    assert row["label"] in sentiment.LABELS
    assert row["text"]
    assert not re.search(r"[{}\[\]|@~]", row["text"])


def test_about_a_tenth_is_reserved() -> None:
    words = [str(number) for number in range(10_000)]
    assert 0.08 < sum(map(is_reserved, words)) / len(words) < 0.12


@pytest.mark.parametrize(
    ("base", "gerund", "third"),
    [
        ("run", "running", "runs"),
        ("write", "writing", "writes"),
        ("open", "opening", "opens"),
        ("carry", "carrying", "carries"),
        ("lie", "lying", "lies"),
        ("go", "going", "goes"),
        ("see", "seeing", "sees"),
    ],
)
def test_english_verbs(base: str, gerund: str, third: str) -> None:
    verb = english.EnglishVerb.read(base)
    assert (verb.gerund, verb.third) == (gerund, third)
