"""Step 3: tensors → human answer. One file for each task, with its three steps; one runner for all."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from triform.errors import InputError
from triform.tasks.options import Options
from triform.tasks.task import Task

TASKS: Mapping[str, str] = {
    "sentence-embedding": "sequence_level.sentence_embedding:SentenceEmbedding",
    "sentence-similarity": "sequence_level.sentence_similarity:SentenceSimilarity",
    "text-classification": "sequence_level.text_classification:TextClassification",
    "text-ranking": "sequence_level.text_ranking:TextRanking",
    "zero-shot-classification": "sequence_level.zero_shot_classification:ZeroShotClassification",
    "fill-mask": "token_level.fill_mask:FillMask",
    "token-classification": "token_level.token_classification:TokenClassification",
    "question-answering": "token_level.question_answering:QuestionAnswering",
    "feature-extraction": "token_level.feature_extraction:FeatureExtraction",
    "text-generation": "generative.text_generation:TextGeneration",
    "text2text-generation": "generative.text2text_generation:Text2TextGeneration",
    "summarization": "generative.summarization:Summarization",
    "translation": "generative.translation:Translation",
}
"""Task name → module and class. Only the wanted module is imported: all of them take longer than a model."""

ALIASES: Mapping[str, str] = {
    "embed": "sentence-embedding",
    "sentiment-analysis": "text-classification",
    "rerank": "text-ranking",
    "ner": "token-classification",
}


def find_task(name: str) -> type[Task[Any, Any]]:
    """Find a task by its name or alias.

    Raises:
        InputError: the name is unknown.
    """
    own = ALIASES.get(name, name)
    if own not in TASKS:
        raise InputError(f"Task {name!r} is not known. Choose one of {', '.join([*TASKS, *ALIASES])}.")
    module, _, kind = TASKS[own].partition(":")
    found: type[Task[Any, Any]] = getattr(import_module(f"triform.tasks.{module}"), kind)
    return found


def pipeline(
    task: str,
    model: str | Path,
    *,
    engine: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    adapter: str | Path | None = None,
    **options: Any,
) -> Task[Any, Any]:
    """Load a model for a task; the result is called with one input, a list, or an iterator.

    Arguments:
        task: a name, such as "text-classification"; `translation_en_to_de` sets the languages as well.
        model: a folder in the Hugging Face layout, or a Hub id such as org/name.
        engine: "auto", or one by name.
        dtype: the format of the weights, as in `triform.load`.
        revision: branch, tag or commit on the Hub.
        adapter: a folder or Hub id of a LoRA adapter in PEFT's layout.
        options: the task's own, such as `top_k`; a call may override them.

    Raises:
        InputError: an unknown task or option.
        WrongTaskError: the model lacks what the task needs.
        ModelError: the model cannot be found or read.
    """
    if task.startswith("translation_") and "_to_" in task:
        source, _, target = task.removeprefix("translation_").partition("_to_")
        task, options = "translation", {"src_lang": source, "tgt_lang": target, **options}
    return find_task(task).load(model, engine=engine, dtype=dtype, revision=revision, adapter=adapter, **options)


__all__ = ["ALIASES", "TASKS", "Options", "Task", "find_task", "pipeline"]
