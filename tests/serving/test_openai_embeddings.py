"""OpenAI's embeddings, by the official client and against the pipeline."""

import numpy as np
import openai
import pytest

from tests.serving.harness import Running

TEXTS = ["A cat sat on the mat.", "Ein Hund.", "猫 🐈"]


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}])
def test_vectors_are_the_pipelines(server: Running, client: openai.OpenAI, options: dict[str, str]) -> None:
    answer = client.embeddings.create(model="minilm", input=TEXTS, **options)
    expected = server.registry.models["minilm"].task("sentence-embedding")(TEXTS)
    assert [each.index for each in answer.data] == [0, 1, 2]
    for each, vector in zip(answer.data, expected, strict=True):
        assert np.array_equal(np.array(each.embedding, np.float32), vector)
