"""The steps of one text through a model, printed in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from triform import spec
from triform.demo.walk import Candidate, Scores, Stack, Walk, Walker
from triform.tasks.probabilities import Numbers

FORMS = {spec.Encoder: "encoder", spec.Decoder: "decoder", spec.EncoderDecoder: "encoder and decoder"}
MOST_ROWS = 16
"""Most rows that are shown of the scores of one text."""
LEAST = 0.005
"""Least probability that is shown."""
BAR = 24
"""Characters of a bar that means 100 %."""
HEIGHTS = " ▁▂▃▄▅▆▇█"
COLOURS = {"positive": "green", "negative": "red", "PER": "magenta", "LOC": "green", "ORG": "cyan"}


def show(walker: Walker, walk: Walk, console: Console) -> None:
    """Print every step."""
    demo, model = walker.demo, walker.task.model
    form, vocab_size = FORMS[type(model.spec.form)], model.spec.input_stack.vocab_size
    rows, columns = walk.logits.shape
    console.print(Rule(f"[bold]{demo.name}[/]  {demo.summary}", align="left"))
    _step(console, "text", f"{form}, {model.num_parameters:,} parameters", Text(walk.text.text, style="bold"))
    _step(console, "→ tokens → ids", f"{len(walk.text.ids)} of a vocabulary of {vocab_size:,}", _tokens(walk))
    for stack in walk.stacks:
        width = stack.states[0].shape[-1]
        _step(console, f"→ tensors: {stack.name}", f"{width} numbers for each token", _states(stack))
    _step(console, "→ tensors: scores", f"logits ({rows} × {columns:,}) → probabilities", _scores(walk.scores))
    _step(console, "→ text", "", _answer(walk))


def _step(console: Console, name: str, note: str, what: RenderableType) -> None:
    console.print(Text.assemble((name, "bold cyan"), ("  " + note, "dim")))
    console.print(Padding(what, (0, 0, 1, 2)))


def _tokens(walk: Walk) -> RenderableType:
    """Each token above its id."""
    cells = [
        Text.assemble((token, "dim" if sequence is None else "yellow"), "\n", (str(id), "dim"))
        for token, id, sequence in zip(walk.text.tokens, walk.text.ids.tolist(), walk.text.sequence_ids, strict=True)
    ]
    return Columns(cells, padding=(0, 2))


def _states(stack: Stack) -> RenderableType:
    """Show each layer's shape, the beginning of one token's vector, and the distance that each token was moved."""
    shown = -1 if stack.name == "decoder" else 0  # what the next token is read off, or what stands for the text
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for header in ("", "shape", Text(f"{stack.tokens[shown]} begins with"), "each token moved by"):
        table.add_column(header)
    before: Numbers | None = None
    for layer, states in enumerate(stack.states):
        name = "embedding" if layer == 0 else f"block {layer - 1}"
        numbers = " ".join(f"{number:+.2f}" for number in states[shown, :4].tolist())
        moved = "" if before is None else _sparks(_distance(before, states))
        table.add_row(name, f"{states.shape[0]} × {states.shape[1]}", f"{numbers} …", Text(moved, style="yellow"))
        before = states
    return table


def _distance(before: Numbers, after: Numbers) -> Numbers:
    """(n,) 1 − cosine: 0 where a vector kept its direction."""
    norms = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
    distance: Numbers = 1 - (before * after).sum(axis=-1) / np.maximum(norms, 1e-12)
    return distance


def _sparks(values: Numbers) -> str:
    top = max(float(values.max()), 1e-12)
    return "".join(HEIGHTS[round(value / top * (len(HEIGHTS) - 1))] for value in np.clip(values, 0, None).tolist())


def _scores(scores: Sequence[Scores]) -> RenderableType:
    """Show one row of logits as bars; of several rows, the best candidates of each."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    if len(scores) == 1:
        for candidate in scores[0].candidates:
            table.add_row(
                _name(candidate),
                _bar(candidate.probability),
                f"{candidate.probability:.1%}",
                f"[dim]{candidate.logit:+.2f}[/]",
            )
        return table
    for row in scores[:MOST_ROWS]:
        written = next((one for one in row.candidates if one.name == row.of), None)
        shown = written or row.candidates[0]
        names = [_name(shown)] if written else [Text(row.of, style="yellow"), _name(shown)]
        others = [one for one in row.candidates if one is not shown and one.probability > LEAST]
        rest = "  ".join(f"{one.name} {one.probability:.0%}" for one in others[:2])
        table.add_row(*names, _bar(shown.probability), f"{shown.probability:.0%}", Text(rest, style="dim"))
    more = len(scores) - MOST_ROWS
    return table if more <= 0 else Group(table, Text(f"… and {more} more", style="dim"))


def _name(candidate: Candidate) -> Text:
    return Text(candidate.name, style=COLOURS.get(candidate.name.split("-")[-1], "yellow"))


def _bar(share: float) -> Text:
    return Text("█" * round(share * BAR), style="blue")


def _answer(walk: Walk) -> RenderableType:
    answer = walk.answer[0] if isinstance(walk.answer, list) and len(walk.answer) == 1 else walk.answer
    if isinstance(answer, list):
        return _marked(walk.text.text, answer) if answer else Text("no names")
    if "label" in answer:
        return Text(answer["label"], style=f"bold {COLOURS.get(answer['label'], '')}")
    return Text(next(iter(answer.values())), style="bold")


def _marked(text: str, entities: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Show the text with its names in colour, and the kind of each name."""
    marked = Text(text)
    for entity in entities:
        marked.stylize(f"bold {COLOURS[entity['entity_group']]}", entity["start"], entity["end"])
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for entity in entities:
        kind = Text(entity["entity_group"], style=COLOURS[entity["entity_group"]])
        table.add_row(kind, Text(text[entity["start"] : entity["end"]], style="bold"), f"{entity['score']:.0%}")
    return Group(marked, table)
