"""French for the translator's sentences: plurals, feminines, verbs, elision and contraction.

A star before a word (`*héros`) says that nothing is elided before it; `finish` takes the stars away.
"""

import re
from collections.abc import Mapping
from enum import StrEnum

VOWEL = "aàâeéèêëiîïoôuùûyœæh"
ELIDED = r"(?i)(?<!-)\b(je|me|te|se|le|la|ne|de|que|jusque|parce que|lorsque|puisque) (?=[aàâeéèêëiîïoôuùûœæh]|y\b)"


class Tense(StrEnum):
    """The tense of a clause, by the French name."""

    PRESENT = "présent"
    IMPERFECT = "imparfait"
    PERFECT = "passé composé"
    FUTURE = "futur"
    NEAR_FUTURE = "futur proche"
    CONDITIONAL = "conditionnel"


IRREGULAR: Mapping[str, tuple[str, str, str, str]] = {
    # infinitive: present of je tu il nous vous ils, stem of the imperfect, stem of the future, past participle
    "être": ("suis es est sommes êtes sont", "ét", "ser", "été"),
    "avoir": ("ai as a avons avez ont", "av", "aur", "eu"),
    "aller": ("vais vas va allons allez vont", "all", "ir", "allé"),
    "faire": ("fais fais fait faisons faites font", "fais", "fer", "fait"),
    "dire": ("dis dis dit disons dites disent", "dis", "dir", "dit"),
    "voir": ("vois vois voit voyons voyez voient", "voy", "verr", "vu"),
    "venir": ("viens viens vient venons venez viennent", "ven", "viendr", "venu"),
    "tenir": ("tiens tiens tient tenons tenez tiennent", "ten", "tiendr", "tenu"),
    "pouvoir": ("peux peux peut pouvons pouvez peuvent", "pouv", "pourr", "pu"),
    "vouloir": ("veux veux veut voulons voulez veulent", "voul", "voudr", "voulu"),
    "devoir": ("dois dois doit devons devez doivent", "dev", "devr", "dû"),
    "savoir": ("sais sais sait savons savez savent", "sav", "saur", "su"),
    "prendre": ("prends prends prend prenons prenez prennent", "pren", "prendr", "pris"),
    "mettre": ("mets mets met mettons mettez mettent", "mett", "mettr", "mis"),
    "lire": ("lis lis lit lisons lisez lisent", "lis", "lir", "lu"),
    "écrire": ("écris écris écrit écrivons écrivez écrivent", "écriv", "écrir", "écrit"),
    "boire": ("bois bois boit buvons buvez boivent", "buv", "boir", "bu"),
    "dormir": ("dors dors dort dormons dormez dorment", "dorm", "dormir", "dormi"),
    "partir": ("pars pars part partons partez partent", "part", "partir", "parti"),
    "sortir": ("sors sors sort sortons sortez sortent", "sort", "sortir", "sorti"),
    "servir": ("sers sers sert servons servez servent", "serv", "servir", "servi"),
    "sentir": ("sens sens sent sentons sentez sentent", "sent", "sentir", "senti"),
    "ouvrir": ("ouvre ouvres ouvre ouvrons ouvrez ouvrent", "ouvr", "ouvrir", "ouvert"),
    "couvrir": ("couvre couvres couvre couvrons couvrez couvrent", "couvr", "couvrir", "couvert"),
    "offrir": ("offre offres offre offrons offrez offrent", "offr", "offrir", "offert"),
    "connaître": ("connais connais connaît connaissons connaissez connaissent", "connaiss", "connaîtr", "connu"),
    "croire": ("crois crois croit croyons croyez croient", "croy", "croir", "cru"),
    "envoyer": ("envoie envoies envoie envoyons envoyez envoient", "envoy", "enverr", "envoyé"),
    "recevoir": ("reçois reçois reçoit recevons recevez reçoivent", "recev", "recevr", "reçu"),
    "courir": ("cours cours court courons courez courent", "cour", "courr", "couru"),
    "suivre": ("suis suis suit suivons suivez suivent", "suiv", "suivr", "suivi"),
    "vivre": ("vis vis vit vivons vivez vivent", "viv", "vivr", "vécu"),
    "rire": ("ris ris rit rions riez rient", "ri", "rir", "ri"),
    "conduire": ("conduis conduis conduit conduisons conduisez conduisent", "conduis", "conduir", "conduit"),
    "construire": ("construis construis construit construisons construisez construisent", "construis", "construir",
                   "construit"),
    "traduire": ("traduis traduis traduit traduisons traduisez traduisent", "traduis", "traduir", "traduit"),
    "peindre": ("peins peins peint peignons peignez peignent", "peign", "peindr", "peint"),
    "éteindre": ("éteins éteins éteint éteignons éteignez éteignent", "éteign", "éteindr", "éteint"),
    "mourir": ("meurs meurs meurt mourons mourez meurent", "mour", "mourr", "mort"),
    "asseoir": ("assieds assieds assied asseyons asseyez asseyent", "assey", "assiér", "assis"),
    "battre": ("bats bats bat battons battez battent", "batt", "battr", "battu"),
    "plaire": ("plais plais plaît plaisons plaisez plaisent", "plais", "plair", "plu"),
    "fuir": ("fuis fuis fuit fuyons fuyez fuient", "fuy", "fuir", "fui"),
}  # fmt: skip
DERIVED = {
    "devenir": "venir", "revenir": "venir", "prévenir": "venir", "appartenir": "tenir", "obtenir": "tenir",
    "comprendre": "prendre", "apprendre": "prendre", "surprendre": "prendre", "permettre": "mettre",
    "promettre": "mettre", "découvrir": "couvrir", "décrire": "écrire", "reconnaître": "connaître",
    "disparaître": "connaître", "produire": "conduire", "détruire": "construire", "repartir": "partir",
    "souvenir": "venir", "sourire": "rire", "endormir": "dormir", "survivre": "vivre", "relire": "lire",
    "combattre": "battre", "revoir": "voir", "refaire": "faire", "remettre": "mettre",
}  # fmt: skip
WITH_ETRE = """aller venir arriver partir sortir entrer rester tomber monter descendre mourir devenir revenir rentrer
retourner passer repartir""".split()
DOUBLING = ("appeler", "jeter", "rappeler")


def _irregular(infinitive: str) -> tuple[list[str], str, str, str] | None:
    base = DERIVED.get(infinitive, infinitive)
    if base not in IRREGULAR:
        return None
    present, imperfect, future, participle = IRREGULAR[base]
    stem = next(length for length in range(len(base), -1, -1) if infinitive.endswith(base[-length:] if length else ""))
    prefix, cut = infinitive[: len(infinitive) - stem], len(base) - stem
    return (
        [prefix + form[cut:] for form in present.split()],
        prefix + imperfect[cut:],
        prefix + future[cut:],
        prefix + participle[cut:],
    )


def _hard(stem: str, ending: str) -> str:
    """Return a stem with c and g sounding before a and o as before e."""
    if ending[:1] in ("a", "o", "â"):
        stem = re.sub("c$", "ç", re.sub("g$", "ge", stem))
    return stem + ending


def _open(infinitive: str) -> str:
    """Return the stem of a verb in -er before a silent ending: achète, préfère, appelle, essaie."""
    stem = infinitive[:-2]
    if infinitive in DOUBLING:
        return stem + stem[-1]
    if match := re.search(r"[eé]([bcdfglmnprstvz]|br|ch|gn|qu|gu|gl|tr)$", stem):
        return stem[: match.start()] + "è" + match[1]
    return re.sub(r"y$", "i", stem)


def conjugated(infinitive: str, tense: Tense, person: int) -> str:
    """Return one word of the verb: `person` 0 to 5 for je, tu, il, nous, vous, ils."""
    present, imperfect, future, _ = parts(infinitive)
    match tense:
        case Tense.PRESENT:
            return present[person]
        case Tense.IMPERFECT:
            return _hard(imperfect, "ais ais ait ions iez aient".split()[person])
        case Tense.FUTURE:
            return future + "ai as a ons ez ont".split()[person]
        case Tense.CONDITIONAL:
            return future + "ais ais ait ions iez aient".split()[person]
    raise ValueError(f"{tense} is of two words")


def parts(infinitive: str) -> tuple[list[str], str, str, str]:
    """Return the present of six persons, the stems of imperfect and future, and the participle."""
    if found := _irregular(infinitive):
        return found
    stem = infinitive[:-2]
    if infinitive.endswith("er"):
        silent = _open(infinitive)
        present = [silent + "e", silent + "es", silent + "e", _hard(stem, "ons"), stem + "ez", silent + "ent"]
        closed = re.search(r"é[^aeiou]+$", stem)  # préférera keeps its é
        return present, stem, (stem if closed else silent) + "er", stem + "é"
    if infinitive.endswith("ir"):
        return [stem + e for e in "is is it issons issez issent".split()], stem + "iss", infinitive, stem + "i"
    third = stem if stem.endswith(("d", "t")) else stem + "t"
    return [stem + "s", stem + "s", third, stem + "ons", stem + "ez", stem + "ent"], stem, infinitive[:-1], stem + "u"


def agreed(participle: str, *, feminine: bool, plural: bool) -> str:
    """Return a participle or adjective with the ending: allé, allée, allés, allées."""
    ending = "e" * feminine + "s" * (plural and not (participle.endswith("s") and not feminine))
    return participle.replace("dû", "du") + ending if ending else participle


def feminine_of(masculine: str) -> str:
    """Return the regular feminine of an adjective."""
    for ending, changed in (
        ("e", "e"),
        ("eux", "euse"),
        ("f", "ve"),
        ("er", "ère"),
        ("el", "elle"),
        ("en", "enne"),
        ("on", "onne"),
    ):
        if masculine.endswith(ending):
            return masculine[: -len(ending)] + changed
    return masculine + "e"


def plural_of(singular: str) -> str:
    """Return the regular plural of a noun or adjective; of several words, the first changes."""
    first, space, rest = singular.partition(" ")
    if first.endswith(("s", "x", "z")):
        plural = first
    elif first.endswith(("au", "eu")):
        plural = first + "x"
    elif first.endswith("al"):
        plural = first[:-2] + "aux"
    else:
        plural = first + "s"
    return plural + space + rest


def begins_with_vowel(text: str) -> bool:
    """Return whether words before the text elide."""
    return text[:1].lower() in VOWEL and not re.match(r"(?i)y(?!\b)", text)


def after(preposition: str, words: str) -> str:
    """Put a preposition before a noun phrase, contracted with the article: du, des, au, aux."""
    for article, contracted in (("le ", {"de": "du ", "à": "au "}), ("les ", {"de": "des ", "à": "aux "})):
        last = preposition.split()[-1]
        if words.startswith(article) and last in contracted:
            return (preposition.removesuffix(last) + contracted[last] + words.removeprefix(article)).strip()
    if preposition == "de" and words.startswith(("des ", "du ", "de la ", "de l'")):
        return "de " + re.sub(r"^(des|du|de la) |^de l'", "", words)
    return f"{preposition} {words}"


def compared(que: str, adjective: str) -> str:
    """Insert an adjective in `plus {} que`: plus grand que, but meilleur que."""
    words = que.format(adjective)
    return re.sub(r"^plus bon(ne)?(s?) ", lambda match: f"meilleur{'e' if match[1] else ''}{match[2]} ", words)


def finish(text: str) -> str:
    """Return a sentence with elisions and capital: `je ai` → `J'ai`."""
    text = re.sub(r"(?i)\b(s)i (?=ils?\b)", r"\1'", text)
    text = re.sub(ELIDED, lambda match: match[1][:-1] + "'", text)
    text = re.sub(r"\s+", " ", text.replace("*", "")).strip()
    return text[:1].upper() + text[1:]
