"""Metrics, by the libraries of the field. Needs no torch."""

import math
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from triform.errors import InputError

Scores = Mapping[str, float]
LESS_IS_BETTER = ("loss", "perplexity")


def is_better(score: float, best: float | None, metric: str) -> bool:
    """Compare a score with the best so far."""
    return best is None or (score < best if metric in LESS_IS_BETTER else score > best)


def find_best(evaluations: Iterable[Scores], metric: str) -> Scores | None:
    """Find the best evaluation by a metric, the first of equal ones; None without evaluations."""
    best: Scores | None = None
    for scores in evaluations:
        if best is None or is_better(scores[metric], best[metric], metric):
            best = scores
    return best


def single_label(answers: Sequence[str], gold: Sequence[str]) -> Scores:
    """Compute accuracy, F1 as the mean over labels, and Matthews' correlation, for a single label for each text."""
    metrics = library("sklearn.metrics")
    return {
        "accuracy": float(metrics.accuracy_score(gold, answers)),
        "macro_f1": float(metrics.f1_score(gold, answers, average="macro", zero_division=0)),
        "matthews": float(metrics.matthews_corrcoef(gold, answers)),
    }


def multi_label(answers: Sequence[Sequence[int]], gold: Sequence[Sequence[int]]) -> Scores:
    """Compute accuracy of whole rows of 0 and 1, and F1 over all labels together and as the mean over labels."""
    metrics = library("sklearn.metrics")
    return {
        "accuracy": float(metrics.accuracy_score(gold, answers)),
        "micro_f1": float(metrics.f1_score(gold, answers, average="micro", zero_division=0)),
        "macro_f1": float(metrics.f1_score(gold, answers, average="macro", zero_division=0)),
    }


def correlation(answers: Sequence[float], gold: Sequence[float]) -> Scores:
    """Compute Spearman's rank correlation, and Pearson's correlation."""
    stats = library("scipy.stats")
    return {
        "spearman": float(stats.spearmanr(answers, gold).statistic),
        "pearson": float(stats.pearsonr(answers, gold).statistic),
    }


def entities(answers: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> Scores:
    """Compute precision, recall and F1 of whole entities, as conlleval counts them, and accuracy of single tags."""
    metrics = library("seqeval.metrics")
    answers, gold = list(map(list, answers)), list(map(list, gold))
    return {
        "f1": float(metrics.f1_score(gold, answers, zero_division=0)),
        "precision": float(metrics.precision_score(gold, answers, zero_division=0)),
        "recall": float(metrics.recall_score(gold, answers, zero_division=0)),
        "accuracy": float(metrics.accuracy_score(gold, answers)),
    }


def translation(answers: Sequence[str], gold: Sequence[str]) -> Scores:
    """Compute BLEU (Papineni et al. 2002) and chrF (Popović 2015) of a corpus, from 0 to 100, by sacrebleu's tokens."""
    sacrebleu = library("sacrebleu")
    return {
        "bleu": float(sacrebleu.corpus_bleu(answers, [gold]).score),
        "chrf": float(sacrebleu.corpus_chrf(answers, [gold]).score),
    }


def perplexity(surprises: Sequence[float]) -> Scores:
    """Compute the mean loss in nats per token, and e to the mean."""
    loss = math.fsum(surprises) / len(surprises)
    return {"loss": loss, "perplexity": math.exp(loss)}


def spans(answers: Sequence[str], gold: Sequence[Sequence[str]]) -> Scores:
    """Compute exact match and F1 over words, from 0 to 1, the best over each question's answers.

    Rajpurkar et al. 2016, section 6.1.
    """
    pairs = list(zip(answers, gold, strict=True))
    exact = [max(_normalized(answer) == _normalized(one) for one in own) for answer, own in pairs]
    f1 = [max(_word_f1(answer, one) for one in own) for answer, own in pairs]
    return {"exact_match": sum(exact) / len(exact), "f1": sum(f1) / len(f1)}


def _normalized(text: str) -> list[str]:
    text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def _word_f1(answer: str, gold: str) -> float:
    first, second = _normalized(answer), _normalized(gold)
    if not first or not second:
        return float(first == second)
    common = sum((Counter(first) & Counter(second)).values())
    return 2 * common / (len(first) + len(second))


def library(name: str) -> Any:
    """Import a module of the extra `train`.

    Raises:
        InputError: the module is not installed.
    """
    require(name)
    return import_module(name)


def require(name: str) -> None:
    """Require that a module of the extra `train` is installed; nothing is imported.

    Raises:
        InputError: the module is not installed.
    """
    package = name.partition(".")[0]
    if find_spec(package) is None:
        raise InputError(f"{package} is missing. Training and scores need it: pip install 'triform[train]'")
