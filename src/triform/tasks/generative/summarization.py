"""Summaries of texts."""

from triform.tasks.generative.text2text_generation import Text2TextGeneration


class Summarization(Text2TextGeneration):
    """Answers `{summary_text}` for a text."""

    name = "summarization"
    summary = "Each text in fewer words."
    example = "The tower is 324 metres tall, about the height of a building of 81 storeys."
    key = "summary_text"
