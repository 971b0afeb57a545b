"""Step 3: tensors → human answer. One file for each task, each with preprocess, forward and postprocess."""

from pathlib import Path
from typing import Any

from triform.errors import InputError
from triform.tasks.generative.summarization import Summarization
from triform.tasks.generative.text2text_generation import Text2TextGeneration
from triform.tasks.generative.text_generation import TextGeneration
from triform.tasks.generative.translation import Translation
from triform.tasks.sequence_level.sentence_embedding import SentenceEmbedding
from triform.tasks.sequence_level.sentence_similarity import SentenceSimilarity
from triform.tasks.sequence_level.text_classification import TextClassification
from triform.tasks.sequence_level.text_ranking import TextRanking
from triform.tasks.sequence_level.zero_shot_classification import ZeroShotClassification
from triform.tasks.task import Options, Task
from triform.tasks.token_level.feature_extraction import FeatureExtraction
from triform.tasks.token_level.fill_mask import FillMask
from triform.tasks.token_level.question_answering import QuestionAnswering
from triform.tasks.token_level.token_classification import TokenClassification

TASKS: tuple[type[Task[Any, Any]], ...] = (
    SentenceEmbedding,
    SentenceSimilarity,
    TextClassification,
    TextRanking,
    ZeroShotClassification,
    FillMask,
    TokenClassification,
    QuestionAnswering,
    FeatureExtraction,
    TextGeneration,
    Text2TextGeneration,
    Summarization,
    Translation,
)


def find_task(name: str) -> type[Task[Any, Any]]:
    """A task by its name or alias.

    Raises:
        InputError: there is none.
    """
    for task in TASKS:
        if name == task.name or name in task.aliases:
            return task
    known = ", ".join("/".join((task.name, *task.aliases)) for task in TASKS)
    raise InputError(f"Task {name!r} is not known. Choose one of {known}.")


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
    """A task with a model, ready to be called with one input, a list, or an iterator.

    Arguments:
        task: its name, such as "text-classification"; `translation_en_to_de` sets the languages as well.
        model: a folder in the Hugging Face layout, or a Hub id such as org/name.
        engine: "auto", or one by name.
        dtype: how to hold the weights: as in `triform.load`.
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


__all__ = ["TASKS", "Options", "Task", "find_task", "pipeline"]
