"""The list of models, by the official client."""

import httpx
import openai
import pytest

from tests.serving.harness import Running


def test_models_are_listed(server: Running) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    models = {model.id: model for model in client.models.list()}
    assert list(models) == list(server.registry.models)
    forms = {name: model.model_dump()["form"] for name, model in models.items()}
    assert forms["minilm"] == "encoder"
    assert forms["translation"] == "encoder-decoder"
    assert forms["story"] == "decoder"
    story = models["story"].model_dump()
    assert story["max_model_len"] == 512
    assert story["tasks"] == ["text-generation"]
    assert httpx.get(f"{server.url}/models").json() == httpx.get(f"{server.url}/v1/models").json()


def test_ids_may_hold_slashes(chat_server: Running, client: openai.OpenAI) -> None:
    assert client.models.retrieve("org/chat").id == "org/chat"
    for path in ("v1/models/org/chat", "v1/models/org%2Fchat", "models/org/chat"):
        assert httpx.get(f"{chat_server.url}/{path}").json()["id"] == "org/chat"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("org/other")
    assert caught.value.code == "model_not_found"


def test_evaluations_find_the_special_tokens(chat_server: Running) -> None:
    info = httpx.get(f"{chat_server.url}/models/org/chat/tokenizer_info").json()
    assert info["bos_token"] == "<s>"
    assert info["eos_token"] == "</s>"
    assert info["pad_token"] == "<pad>"
    assert "add_generation_prompt" in info["chat_template"]
    assert httpx.get(f"{chat_server.url}/models/story/tokenizer_info").json()["chat_template"] is None
    assert httpx.get(f"{chat_server.url}/tokenizer_info").status_code == 404
