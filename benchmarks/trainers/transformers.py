"""The side of transformers' Trainer, with the padding of the standard collators: up to the longest text."""

import tempfile
import time
from typing import Any

import numpy as np
import seqeval.metrics
import torch
import transformers

from benchmarks.trainers import SETTINGS, Arguments, Outcome, parse, resident

IGNORED = -100
"""The label that the loss ignores."""


def examples(arguments: Arguments, part: str, tokenizer: Any) -> list[dict[str, Any]]:
    """Return tokenized rows; the first piece of a word has the label."""
    numbers = {label: number for number, label in enumerate(arguments.labels)}
    found = []
    for row in arguments.rows(part):
        if not arguments.is_tagging:
            found.append({**tokenizer(row["text"], truncation=True), "labels": numbers[row["label"]]})
            continue
        encoded = tokenizer(row["tokens"], is_split_into_words=True, truncation=True)
        words = encoded.word_ids()
        is_first = [
            word is not None and word != before for word, before in zip(words, [None, *words[:-1]], strict=True)
        ]
        labels = [numbers[row["tags"][word]] if first else IGNORED for word, first in zip(words, is_first, strict=True)]
        found.append({**encoded, "labels": labels})
    return found


def score(arguments: Arguments, predicted: Any) -> float:
    """Compute accuracy, or F1 of entities, in percent."""
    best, labels = predicted.predictions.argmax(axis=-1), predicted.label_ids
    if not arguments.is_tagging:
        return 100 * float((best == labels).mean())
    names = np.array(arguments.labels)
    gold = [names[row[row != IGNORED]].tolist() for row in labels]
    answers = [names[own[row != IGNORED]].tolist() for own, row in zip(best, labels, strict=True)]
    return 100 * float(seqeval.metrics.f1_score(gold, answers))


def main() -> None:
    arguments = parse()
    kind = "TokenClassification" if arguments.is_tagging else "SequenceClassification"
    model_type, collator_type = (
        getattr(transformers, f"AutoModelFor{kind}"),
        getattr(transformers, f"DataCollator{'ForTokenClassification' if arguments.is_tagging else 'WithPadding'}"),
    )
    before = resident("VmRSS")
    transformers.set_seed(arguments.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.checkpoint)
    model = model_type.from_pretrained(arguments.checkpoint, num_labels=len(arguments.labels))
    train = examples(arguments, "train", tokenizer)
    with tempfile.TemporaryDirectory() as output:
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(
                output_dir=output,
                num_train_epochs=SETTINGS["epochs"],
                max_steps=arguments.steps or -1,
                per_device_train_batch_size=SETTINGS["batch_size"],
                learning_rate=SETTINGS["learning_rate"],
                warmup_steps=SETTINGS["warmup"],
                weight_decay=SETTINGS["weight_decay"],
                max_grad_norm=SETTINGS["max_gradient_norm"],
                lr_scheduler_type="linear",
                seed=arguments.seed,
                use_cpu=True,
                dataloader_pin_memory=False,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=train,
            data_collator=collator_type(tokenizer),
        )
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
        memory = resident("VmHWM") - before
        test = examples(arguments, "test", tokenizer)
        with torch.inference_mode():
            predicted = trainer.predict(test)
    steps_in_epoch = -(-len(train) // SETTINGS["batch_size"])
    Outcome(score(arguments, predicted), seconds / trainer.state.global_step * steps_in_epoch, memory).print()


if __name__ == "__main__":
    main()
