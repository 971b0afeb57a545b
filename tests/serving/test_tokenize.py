"""Tokens, texts of ids, chat templates, and what llama-server tells of itself."""

import threading
import time
from typing import Any

import httpx
import pytest

from tests.serving.harness import Running
from triform.inputs import Tokenizer
from triform.inputs.chat.template import Chat

TEXT = "A cat's 猫 🐈 sat."
MESSAGES = [{"role": "user", "content": "A cat? </s>"}]


def tokenizer(running: Running, model: str) -> Tokenizer:
    found = running.registry.models[model].main_task.processor
    assert isinstance(found, Tokenizer)
    return found


def post(running: Running, path: str, **body: Any) -> Any:
    answer = httpx.post(running.url + path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_text_embeddings_inference(server: Running) -> None:
    [encoded] = tokenizer(server, "minilm").encode([TEXT])
    [found] = post(server, "/tokenize", inputs=TEXT, model="minilm")
    assert [each["id"] for each in found] == encoded.ids.tolist()
    for each, place, sequence in zip(found, encoded.characters.tolist(), encoded.sequence_ids, strict=True):
        assert each["special"] == (sequence is None)
        if each["special"]:
            assert (each["start"], each["stop"]) == (None, None)
        else:
            assert [each["start"], each["stop"]] == place
            assert each["text"] == TEXT[place[0] : place[1]]
    bare = post(server, "/tokenize", inputs=[TEXT, "x"], model="minilm", add_special_tokens=False)
    assert [[each["id"] for each in row] for row in bare] == [
        text.ids.tolist() for text in tokenizer(server, "minilm").encode([TEXT, "x"], special_tokens=False)
    ]
    ids = encoded.ids.tolist()
    decoded = tokenizer(server, "minilm").decode(ids)
    assert post(server, "/decode", ids=ids, model="minilm") == [decoded]
    assert post(server, "/decode", ids=[ids, ids[:3]], model="minilm")[0] == decoded
    shown = post(server, "/decode", ids=ids, model="minilm", skip_special_tokens=False)
    assert shown == [tokenizer(server, "minilm").decode(ids, skip_special_tokens=False)]


def test_llama_server(server: Running) -> None:
    own = tokenizer(server, "story")
    [encoded] = own.encode([TEXT], special_tokens=False)
    assert post(server, "/tokenize", content=TEXT, model="story") == {"tokens": encoded.ids.tolist()}
    assert post(server, "/tokenize", content="", model="story") == {"tokens": []}
    pieces = post(server, "/tokenize", content=TEXT, model="story", with_pieces=True)["tokens"]
    assert [each["id"] for each in pieces] == encoded.ids.tolist()
    joined = b"".join(
        each["piece"].encode() if isinstance(each["piece"], str) else bytes(each["piece"]) for each in pieces
    )
    assert TEXT.encode() in joined or joined.decode().strip() == own.decode(encoded.ids.tolist()).strip()
    text = own.decode(encoded.ids.tolist(), skip_special_tokens=False)
    assert post(server, "/detokenize", tokens=encoded.ids.tolist(), model="story") == {"content": text, "prompt": text}
    assert post(server, "/detokenize", tokens=[], model="story") == {"content": "", "prompt": ""}


def test_special_tokens_in_a_text(small: Running) -> None:
    own = tokenizer(small, "chat")
    id = own.id_of("</s>")
    assert id in post(small, "/tokenize", content="a </s> b", model="chat")["tokens"]
    plain = post(small, "/tokenize", content="a </s> b", model="chat", parse_special=False)
    assert id not in plain["tokens"]


def test_prompts_and_messages(small: Running) -> None:
    task: Any = small.registry.models["chat"].task("text-generation")
    prompt = task.chat_template.render(Chat.read(MESSAGES))
    encoded = task.tokenizer.encode_rendered(prompt.text, spelled=prompt.spelled)
    found = post(small, "/tokenize", messages=MESSAGES, model="chat")
    ids = encoded.ids.tolist()
    assert found == {"count": len(ids), "max_model_len": task.limit(), "tokens": ids}
    [text] = task.tokenizer.encode(["A cat."])
    assert post(small, "/tokenize", prompt="A cat.", model="chat")["tokens"] == text.ids.tolist()
    assert post(small, "/apply-template", messages=MESSAGES) == {"prompt": prompt.text}
    without = task.chat_template.render(Chat.read(MESSAGES), add_generation_prompt=False)
    found = post(small, "/apply-template", messages=MESSAGES, add_generation_prompt=False, model="chat")
    assert found == {"prompt": without.text}


def test_props(server: Running, small: Running) -> None:
    found = httpx.get(f"{small.url}/props").json()
    assert found["model_alias"] == "chat"
    assert found["chat_template"]
    assert found["modalities"] == {"vision": False, "audio": False}
    assert httpx.get(f"{server.url}/props?model=sentiment").json()["model_alias"] == "sentiment"
    assert httpx.get(f"{server.url}/props?model=nobody").status_code == 404


def test_slots(server: Running) -> None:
    idle = httpx.get(f"{server.url}/slots").json()
    assert [each["id"] for each in idle] == list(range(len(idle)))
    assert not any(each["is_processing"] for each in idle)
    assert httpx.get(f"{server.url}/slots?fail_on_no_slot=1").status_code == 200
    body = {"inputs": "Once upon", "parameters": {"max_new_tokens": 200, "min_new_tokens": 200}, "model": "story"}
    thread = threading.Thread(target=lambda: httpx.post(f"{server.url}/generate", json=body, timeout=60))
    thread.start()
    found: list[dict[str, Any]] = []
    end = time.monotonic() + 20
    while not found and time.monotonic() < end:
        found = [each for each in httpx.get(f"{server.url}/slots").json() if each["is_processing"]]
    thread.join()
    assert found[0]["model"] == "story"
    assert found[0]["state"] in ("reading", "writing")
    assert set(found[0]) == {"id", "state", "is_processing", "model", "n_prompt_tokens", "n_decoded", "age"}


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/tokenize", {"content": 3}, 400, "content"),
        ("/tokenize", {"content": "x", "colour": 1}, 400, "colour"),
        ("/tokenize", {"content": "x", "model": "nobody"}, 404, "model"),
        (
            "/tokenize",
            {"content": "x", "model": "chat", "parse_special": False, "add_special": True},
            400,
            "parse_special",
        ),
        ("/tokenize", {"prompt": "x", "messages": MESSAGES}, 400, "prompt"),
        ("/tokenize", {"messages": [], "model": "chat"}, 400, "messages"),
        ("/tokenize", {"messages": [3], "model": "chat"}, 400, None),
        ("/tokenize", {"messages": MESSAGES, "model": "nli"}, 400, "model"),
        ("/tokenize", {"messages": MESSAGES, "model": "chat", "add_special_tokens": True}, 400, "add_special_tokens"),
        ("/detokenize", {"tokens": [-1], "model": "chat"}, 400, "tokens[0]"),
        ("/detokenize", {"tokens": [10**30], "model": "chat"}, 400, "tokens[0]"),
        ("/detokenize", {"tokens": ["x"], "model": "chat"}, 400, "tokens[0]"),
        ("/apply-template", {"messages": "x"}, 400, "messages"),
        ("/apply-template", {"messages": [{"role": "user"}]}, 400, None),
        ("/apply-template", {"messages": MESSAGES, "tools": 3}, 400, "tools"),
    ],
)
def test_a_bad_request_is_named(small: Running, path: str, body: Any, status: int, param: str | None) -> None:
    answer = httpx.post(small.url + path, json=body)
    assert answer.status_code == status, answer.text
    if param is not None:
        assert answer.json()["error"]["param"] == param


def test_a_model_without_a_template(server: Running) -> None:
    answer = httpx.post(f"{server.url}/apply-template", json={"messages": MESSAGES, "model": "story"})
    assert answer.status_code == 400
    assert "no chat template" in answer.json()["message"]
