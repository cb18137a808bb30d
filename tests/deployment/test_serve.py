"""The server: a real client gets the evaluated policy's decisions, bad requests a reason, a kill loses no answer."""

import concurrent.futures
import http.client
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import openai
import pytest
import torch
import uvicorn
from tiny_export import FINCORP, write_export

from byte_models import SIZES
from conftest import ROOT
from hidden_rule.core import engines
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import read_json
from hidden_rule.deployment import serve
from hidden_rule.deployment.answer_log import AnswerLog
from hidden_rule.deployment.batching import Batcher, BusyError
from hidden_rule.deployment.chat_replies import Vocabulary, decide
from hidden_rule.deployment.chat_requests import ChatRequest
from hidden_rule.deployment.exported import Exported
from hidden_rule.deployment.serve_app import Limits, Server, make_app
from hidden_rule.deployment.served_policy import load_served
from hidden_rule.deployment.vllm_scores import VllmScores
from hidden_rule.deployment.web import KEY, Access, bind
from hidden_rule.models.base import BaseModel
from hidden_rule.models.decoding import label_log_probs
from hidden_rule.models.files import model_folder
from hidden_rule.models.loading import load_policy, load_tokenizer
from hidden_rule.models.merging import write_merged
from hidden_rule.models.tokens import encode_prompts, label_trie
from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.dataset import draw_splits
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.replies import parse_reply
from hidden_rule.task.ruleset import load_ruleset
from stand_ins import stand_in

RULESET = load_ruleset(FINCORP)
MODEL = "tiny/sft-seed0"
USER = [{"role": "user", "content": "NPS: 12"}]


def running(server: Server) -> SimpleNamespace:
    """A server on a free port, in a thread of its own: `port`, and `stop()`."""
    listening = bind("127.0.0.1", 0)
    web = uvicorn.Server(uvicorn.Config(make_app(server), log_level="error", lifespan="on", http="h11"))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]})
    thread.start()

    def stop() -> None:
        web.should_exit = True
        thread.join(30)
        listening.close()

    return SimpleNamespace(port=listening.getsockname()[1], stop=stop, server=server)


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def policy(export):
    return load_served(export)


@pytest.fixture(scope="module")
def served(policy, tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "answers.jsonl"
    here = running(Server(policy, Access(), Limits(body_bytes=60_000), AnswerLog(log)))
    here.log = log
    yield here
    here.stop()


@pytest.fixture(scope="module")
def client(served):
    return openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def cases():
    """Conversations about 16 applications."""
    split = draw_splits(RULESET, {"train": 4, "validation": 4, "test": 4, "holdout": 16}, seed=0)["holdout"]
    return render_prompts(RULESET, split)


@pytest.fixture(scope="module")
def evaluated(export, cases):
    """Their log-probabilities (N, L) as an evaluation computes them."""
    base = BaseModel(export.manifest, export.dtype, export.chat_template_kwargs)
    tokenizer = load_tokenizer(base.manifest)
    prompts = encode_prompts(tokenizer, cases, {})
    model = load_policy(base, torch.device("cpu"), export.adapter)
    return label_log_probs(model, label_trie(tokenizer, export.labels), prompts, 64)


def send(port: int, body, path="/v1/chat/completions", **headers) -> tuple[int, dict, dict]:
    """Status, body and headers of an answer to raw bytes, or to JSON of a value."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, content, {"Content-Type": "application/json"} | headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"null"), dict(answer.getheaders())


def test_a_client_gets_the_evaluated_decisions_and_probabilities(client, cases, evaluated):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).model_extra["labels"] == list(RULESET.labels)
    decided = set()
    for messages, log_probs in zip(cases, evaluated, strict=True):
        choice = client.chat.completions.create(model=MODEL, messages=messages).choices[0]
        label = RULESET.labels[int(log_probs.argmax())]
        decided.add(label)
        assert parse_reply(choice.message.content, RULESET.labels) == label == choice.model_extra["decision"]["label"]
        shares = choice.model_extra["decision"]["probabilities"]
        assert list(shares) == list(RULESET.labels) and sum(shares.values()) == pytest.approx(1)
        assert list(shares.values()) == pytest.approx(log_probs.exp().tolist(), abs=1e-5)
    assert len(decided) > 1, "the tiny model decides differently from case to case"


def test_log_probabilities_of_tokens_are_those_of_structured_decoding(client, cases, evaluated):
    answer = client.chat.completions.create(model=MODEL, messages=cases[0], logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert "".join(token.token for token in content) == answer.choices[0].message.content
    assert sum(token.logprob for token in content) == pytest.approx(float(evaluated[0].max()), abs=1e-4)
    (branch, *_) = (token for token in content if len(token.top_logprobs) > 1)
    assert branch.token in "MRAS" and len(branch.top_logprobs) == 3, "the first letters of four labels, three asked for"
    forced = content[0]
    assert forced.logprob == 0 and [token.token for token in forced.top_logprobs] == ["{"]
    plain = client.chat.completions.create(model=MODEL, messages=cases[0])
    assert plain.choices[0].logprobs is None and plain.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + len(content) + 1, "and the end of the turn"


def test_a_stream_holds_what_an_answer_does(client, cases):
    whole = client.chat.completions.create(model=MODEL, messages=cases[1], logprobs=True)
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=cases[1], stream=True, stream_options=options, logprobs=True
        )
    )
    parts = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(part.delta.content or "" for part in parts) == whole.choices[0].message.content
    assert parts[0].delta.role == "assistant" and [part.finish_reason for part in parts] == [None, None, "stop"]
    assert parts[-1].model_extra["decision"]["label"] == whole.choices[0].model_extra["decision"]["label"]
    assert [token.token for part in parts if part.logprobs for token in part.logprobs.content] == [
        token.token for token in whole.choices[0].logprobs.content
    ]
    assert chunks[-1].usage == whole.usage and len({chunk.id for chunk in chunks}) == 1


def test_replies_are_drawn_from_the_policy_where_a_temperature_is_asked_for(client, policy, cases, evaluated):
    """Of 1,000 draws each label's share is within four standard errors of its probability; a seed repeats the draw."""
    (branches,) = policy.branch_log_probs([tuple(policy.prompt(cases[2]))])

    def places(temperature: float, n: int) -> list[int]:
        asked = [ChatRequest(MODEL, cases[2], temperature, seed) for seed in range(n)]
        return [decide(policy.vocabulary, branches, one).place for one in asked]

    drawn = places(1.0, 1000)
    for i, p in enumerate(evaluated[2].exp().tolist()):
        assert abs(drawn.count(i) / 1000 - p) <= 4 * (p * (1 - p) / 1000) ** 0.5 + 1e-3
    assert places(1.0, 50) == drawn[:50]
    assert set(places(0.0, 20)) == set(places(1e-5, 20)) == {int(evaluated[2].argmax())}
    asked = {"model": MODEL, "messages": cases[2], "temperature": 1.0}
    for seed in range(3):
        reply = client.chat.completions.create(**asked, seed=seed).choices[0].message.content
        assert parse_reply(reply, RULESET.labels) == RULESET.labels[drawn[seed]]
    assert client.chat.completions.create(**asked).choices[0].message.content in policy.vocabulary.replies


def test_a_temperature_is_that_of_each_token():
    """Two of three labels share a first token: at T=0 they would be chosen by that, whatever follows."""
    trie = LabelTrie([[1, 3, 9], [1, 4, 9], [2, 9]])
    vocabulary = Vocabulary(("AC", "AD", "B"), ("", "", ""), trie, {})
    branches = torch.tensor([0.6, 0.4, 0.5, 0.5]).log()  # A or B, then C or D
    request = ChatRequest(MODEL, USER)
    greedy = decide(vocabulary, branches, request)
    assert greedy.place == 2 and greedy.probabilities == pytest.approx([0.3, 0.3, 0.4]), "B is the likeliest reply"
    drawn = [decide(vocabulary, branches, replace(request, temperature=0.5, seed=i)).place for i in range(2000)]
    share = 0.6**2 / (0.6**2 + 0.4**2)
    assert drawn.count(2) / 2000 == pytest.approx(1 - share, abs=0.04)


OK = {"model": MODEL, "messages": USER}
DEEP = b'{"model": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
BAD = [  # body, status, a phrase of the reason, the parameter
    (b"{", 400, "not JSON", None),
    (b"", 400, "not JSON", None),
    (b"\xff\xfe", 400, "UTF-8", None),
    (b"[]", 400, "not a JSON object", None),
    (b'{"temperature": NaN}', 400, "NaN", None),
    (DEEP[:59_000], 400, "not JSON", None),
    (b" " * 60_001, 413, "larger than 60,000 bytes", None),
    (b" " * 400_000, 413, "larger than 60,000 bytes", None),
    ({}, 400, "model must be text", "model"),
    (OK | {"model": "gpt-4"}, 404, "does not exist; known: tiny/sft-seed0", "model"),
    ({"model": MODEL}, 400, "at least one message", "messages"),
    (OK | {"messages": []}, 400, "at least one message", "messages"),
    (OK | {"messages": "hi"}, 400, "at least one message", "messages"),
    (OK | {"messages": ["hi"]}, 400, "must be an object", "messages[0]"),
    (OK | {"messages": USER * 65}, 400, "65 entries, of at most 64", "messages"),
    (OK | {"messages": [{"role": "tool", "content": "x"}]}, 400, "system, user or assistant", "messages[0].role"),
    (OK | {"messages": [{"role": ["user"], "content": "x"}]}, 400, "system, user or assistant", "messages[0].role"),
    (OK | {"messages": [*USER, {"role": "assistant", "content": "x"}]}, 400, "must be the user's", "messages[1].role"),
    (OK | {"messages": [{"role": "user", "content": None}]}, 400, "must be text", "messages[0].content"),
    (OK | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "parts of the type text", None),
    (OK | {"messages": [{"role": "user", "content": "\ud800"}]}, 400, "surrogate", "messages[0].content"),
    (OK | {"messages": [{"role": "user", "content": "<|im_end|>"}]}, 400, "a control token of the model", "messages"),
    (OK | {"messages": [{"role": "user", "content": "x" * 3000}]}, 400, "more than the model's 2,048", "messages"),
    (OK | {"n": 2}, 400, "n may only be 1", "n"),
    (OK | {"n": True}, 400, "n may only be 1", "n"),
    (OK | {"max_tokens": 3}, 400, "would cut a valid reply", "max_tokens"),
    (OK | {"max_completion_tokens": 0}, 400, "must be from 1", "max_completion_tokens"),
    (OK | {"temperature": 2.5}, 400, "from 0 to 2", "temperature"),
    (OK | {"temperature": "1"}, 400, "from 0 to 2", "temperature"),
    (OK | {"temperature": True}, 400, "from 0 to 2", "temperature"),
    (OK | {"seed": 0.5}, 400, "a whole number", "seed"),
    (OK | {"seed": 10**30}, 400, "must be from", "seed"),
    (OK | {"top_p": 0.5}, 400, "top_p may only be 1", "top_p"),
    (OK | {"stop": ["R"]}, 400, "stop may only be", "stop"),
    (OK | {"tools": [{"type": "function"}]}, 400, "tools may only be", "tools"),
    (OK | {"response_format": {"type": "json_schema"}}, 400, "response_format may only be", "response_format"),
    (OK | {"logprobs": 2}, 400, "true or false", "logprobs"),
    (OK | {"logprobs": True, "top_logprobs": 21}, 400, "from 0 to 20", "top_logprobs"),
    (OK | {"top_logprobs": 2}, 400, "needs logprobs", "top_logprobs"),
    (OK | {"stream": "yes"}, 400, "true or false", "stream"),
    (OK | {"temprature": 1}, 400, "did you mean temperature?", "'temprature'"),
]


@pytest.mark.parametrize(("body", "status", "phrase", "param"), BAD, ids=range(len(BAD)))
def test_a_bad_request_gets_its_reason_in_openais_form(served, body, status, phrase, param):
    before = served.log.read_bytes()
    found, said, _ = send(served.port, body)
    error = said["error"]
    assert found == status and phrase in error["message"] and set(error) == {"message", "type", "param", "code"}
    assert param is None or error["param"] == param
    assert served.log.read_bytes() == before


PART = {"type": "text", "text": "y"}


def test_neutral_parameters_and_parts_of_text_are_accepted(served, client):
    asked = OK | {
        "messages": [{"role": "developer", "content": "x"}, {"role": "user", "content": [PART]}],
        "n": 1, "top_p": 1.0, "stop": None, "tools": [], "user": "me", "max_tokens": 100, "temperature": 0, "seed": -1,
        "response_format": {"type": "json_object"}, "frequency_penalty": 0.0,
    }  # fmt: skip
    status, said, _ = send(served.port, asked)
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]
    same = client.chat.completions.create(model=MODEL, messages=messages)
    assert status == 200 and said["choices"][0]["message"]["content"] == same.choices[0].message.content


def test_other_addresses_and_types_are_refused(served):
    assert send(served.port, OK, "/v1/completions")[0] == 404
    assert send(served.port, OK, "/v1/models")[0] == 405
    status, said, _ = send(served.port, OK, **{"Content-Type": "text/plain"})
    assert status == 415 and "application/json" in said["error"]["message"]
    status, said, _ = send(served.port, OK, Host="rebound.example")
    assert status == 403 and "rebound.example" in said["error"]["message"]
    assert send(served.port, OK, Host=f"localhost:{served.port}")[0] == 200


def test_a_case_is_asked_in_the_words_of_training(served, client):
    """The same decision as by the messages that the ruleset makes of the case."""
    split = draw_splits(RULESET, {"train": 4, "validation": 4, "test": 4, "holdout": 4}, seed=3)["holdout"]
    for row, messages in zip(split.iter_rows(named=True), render_prompts(RULESET, split), strict=True):
        case = {name: row[name] for name in RULESET.feature_names}
        status, said, _ = send(served.port, {"case": case}, "/v1/decisions")
        same = client.chat.completions.create(model=MODEL, messages=messages).choices[0].model_extra["decision"]
        assert status == 200 and said["label"] == same["label"] and said["model"] == MODEL
        assert said["probabilities"] == pytest.approx(same["probabilities"], abs=1e-5)
    for body, phrase in (
        ({}, "case must be an object"),
        ({"case": []}, "case must be an object"),
        ({"case": {}}, "case: founder_background: is missing; give one of Ex-Google"),
        ({"case": case | {"nps": "x"}}, "case: nps: 'x' is no number"),
        ({"case": case, "n": 2}, "unknown parameter 'n'; known: case"),
    ):
        status, said, _ = send(served.port, body, "/v1/decisions")
        assert status == 400 and phrase in said["error"]["message"]


def test_a_key_is_asked_for_where_there_is_one(policy):
    here = running(Server(policy, Access("k" * 20, ())))
    try:
        assert send(here.port, OK)[0] == 401
        assert send(here.port, OK, Authorization="Bearer " + "k" * 19)[0] == 401
        assert send(here.port, OK, Authorization="Bearer " + "k" * 20, Host="any.example")[0] == 200
    finally:
        here.stop()


def test_eight_clients_at_once(client, cases, evaluated, served):
    """240 requests: every one is answered, as it would be alone, and stands in the log."""
    labels = [RULESET.labels[i] for i in evaluated.argmax(1).tolist()]
    before = len(served.log.read_text().splitlines())

    def ask(i: int) -> str:
        answer = client.chat.completions.create(model=MODEL, messages=cases[i % len(cases)])
        return answer.choices[0].model_extra["decision"]["label"]

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        found = list(clients.map(ask, range(240)))
    assert found == [labels[i % len(cases)] for i in range(240)]
    lines = [json.loads(line) for line in served.log.read_text().splitlines()[before:]]
    assert len(lines) == 240 and len({line["id"] for line in lines}) == 240
    assert {line["label"] for line in lines} == set(labels)


def test_what_finds_the_queue_full_is_turned_away_and_told_when_to_come_back(policy):
    gate = threading.Event()

    class Slow(type(policy)):
        def branch_log_probs(self, prompts):
            gate.wait(30)
            return super().branch_log_probs(prompts)

    slow = Slow(**{name: getattr(policy, name) for name in policy.__dataclass_fields__})
    here = running(Server(slow, Access(), Limits(waiting=1)))
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as clients:
            sent = [clients.submit(send, here.port, OK) for _ in range(4)]
            deadline = time.monotonic() + 20
            while sum(future.done() for future in sent) < 2 and time.monotonic() < deadline:
                time.sleep(0.02)
            turned_away = [future.result() for future in sent if future.done()]
            gate.set()
            answered = [future.result(30) for future in sent]
        assert len(turned_away) == 2 and all(status == 503 for status, _, _ in turned_away)
        assert all(headers["retry-after"] == "1" for _, _, headers in turned_away)
        assert sorted(status for status, _, _ in answered) == [200, 200, 503, 503]
    finally:
        gate.set()
        here.stop()


def test_a_question_that_is_not_answered_in_time_is_given_up(policy):
    class Stuck(type(policy)):
        def branch_log_probs(self, prompts):
            time.sleep(0.5)
            return super().branch_log_probs(prompts)

    stuck = Stuck(**{name: getattr(policy, name) for name in policy.__dataclass_fields__})
    here = running(Server(stuck, Access(), Limits(answer_s=0.1)))
    try:
        status, said, headers = send(here.port, OK)
        assert status == 503 and said["error"]["code"] == "timeout" and "retry-after" in headers
    finally:
        here.stop()


def test_a_body_that_does_not_arrive_is_not_waited_for(policy):
    here = running(Server(policy, Access(), Limits(body_s=0.2)))
    try:
        with socket.create_connection(("127.0.0.1", here.port), timeout=10) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
    finally:
        here.stop()


def test_a_failure_of_the_model_says_nothing_of_the_machine(policy, caplog):
    class Broken(type(policy)):
        def branch_log_probs(self, prompts):
            raise RuntimeError("secret path /home/me")

    broken = Broken(**{name: getattr(policy, name) for name in policy.__dataclass_fields__})
    here = running(Server(broken, Access()))
    try:
        status, said, _ = send(here.port, OK)
        assert status == 500 and "secret" not in json.dumps(said) and said["error"]["type"] == "server_error"
    finally:
        here.stop()
    assert "secret path" in caplog.text


# --- the queue --------------------------------------------------------------------------------------------------------


class Gated:
    """A computation that waits to be let go, and keeps how many prompts came together."""

    def __init__(self, answer):
        self.begun, self.gate, self.sizes, self.answer = threading.Event(), threading.Event(), [], answer

    def __call__(self, prompts):
        self.begun.set()
        assert self.gate.wait(10)
        self.sizes.append(len(prompts))
        return [self.answer(prompt) for prompt in prompts]


def test_questions_are_computed_together_once_each_and_all_before_the_end():
    compute = Gated(sum)
    batcher = Batcher(compute, batch_size=4, most_waiting=20)
    first = batcher.submit([100])
    assert compute.begun.wait(10)
    futures = [batcher.submit([i // 2]) for i in range(10)]
    compute.gate.set()
    batcher.close()
    assert first.result(0) == 100 and [future.result(0) for future in futures] == [i // 2 for i in range(10)]
    assert compute.sizes == [1, 2, 2, 1], "four at a time, equal ones once"
    with pytest.raises(BusyError):
        batcher.submit([1])


def test_one_question_at_fault_fails_alone():
    compute = Gated(lambda prompt: 1 / prompt[0])
    batcher = Batcher(compute, batch_size=8, most_waiting=8)
    batcher.submit([1])
    assert compute.begun.wait(10)
    futures = [batcher.submit([i]) for i in (1, 2, 0, 4)]
    assert futures[3].cancel()
    compute.gate.set()
    batcher.close()
    assert futures[0].result() == 1 and futures[1].result() == 0.5 and futures[3].cancelled()
    with pytest.raises(ZeroDivisionError):
        futures[2].result()


def test_long_prompts_are_not_computed_together(monkeypatch):
    monkeypatch.setattr("hidden_rule.deployment.batching.MAX_TOKENS", 10)
    compute = Gated(lambda prompt: prompt[0])
    batcher = Batcher(compute, batch_size=8, most_waiting=9)
    futures = [batcher.submit([i] * 6) for i in range(4)] + [batcher.submit([9] * 50)]
    compute.gate.set()
    batcher.close()
    assert [future.result(0) for future in futures] == [0, 1, 2, 3, 9] and set(compute.sizes) == {1}


# --- the log ----------------------------------------------------------------------------------------------------------


def test_a_log_goes_on_behind_a_line_that_was_cut(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"label": "A"}\n{"lab')
    log = AnswerLog(path)
    log.append({"label": "é"})
    log.close()
    assert path.read_text(encoding="utf-8").splitlines() == ['{"label": "A"}', '{"lab', '{"label": "é"}']
    fresh = AnswerLog(tmp_path / "new.jsonl")
    assert (tmp_path / "new.jsonl").stat().st_mode & 0o777 == 0o600
    fresh.close()
    for bad in (tmp_path, tmp_path / "none" / "a.jsonl"):
        with pytest.raises(UserError, match="cannot be written"):
            AnswerLog(bad)


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "key", "phrase"),
    [
        ([""], "", "EXPORT: is missing"),
        (["results/none"], "", "does not exist; name a folder that make export wrote"),
        (["{export}", "--port", "x"], "", "PORT: 'x' is no port"),
        (["{export}", "--port", "70000"], "", "PORT: '70000' is no port"),
        (["{export}", "--host", "0.0.0.0"], "", f"0.0.0.0 can be reached by others, and {KEY} is not set"),
        (["{export}", "--host", "0.0.0.0"], "short", "must have at least 16"),
        (["{export}", "--host", "203.0.113.9"], "k" * 16, "cannot be listened on"),
        (["{export}", "--log", "{export}"], "", "cannot be written"),
    ],
)
def test_a_command_that_cannot_serve_says_why_before_anything_is_loaded(export, monkeypatch, words, key, phrase):
    monkeypatch.setenv(KEY, key)
    monkeypatch.setattr(serve, "start_models", lambda: pytest.fail("loaded"))
    with pytest.raises(UserError) as error:
        serve.main([word.replace("{export}", str(export.folder)) for word in words])
    assert phrase in str(error.value)


def test_a_port_that_is_taken_is_said(export):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="in use.*another one"):
        serve.main([str(export.folder), "--port", str(taken.getsockname()[1])])


def test_replies_of_another_tokenizer_are_refused(export):
    labels = export.labels
    other = replace(export, reply_tokens=export.reply_tokens | {labels[0]: [1, 2, 3]})
    with pytest.raises(UserError, match=f"the reply for {labels[0]} has other tokens"):
        load_served(other)


@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_ended_loses_no_answer(export, cases, tmp_path, ended_by):
    """SIGTERM: what was asked by then is answered. SIGKILL: what was answered by then stands in the log."""
    log = tmp_path / "answers.jsonl"
    command = [
        sys.executable,
        "-m",
        "hidden_rule.deployment.serve",
        str(export.folder),
        "--port",
        "0",
        "--log",
        str(log),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, KEY: ""})
    try:
        port = next(int(line.split("/v1")[0].rsplit(":", 1)[1]) for line in process.stderr if "serving" in line)
        answered, ended = [], threading.Event()

        def ask(i: int) -> None:
            """Ask again and again until the server is gone; `answered` gets the ids."""
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            body = json.dumps(OK | {"messages": cases[i]})
            while True:
                try:
                    connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
                except OSError:
                    return
                try:
                    answer = connection.getresponse()
                    content = json.loads(answer.read())
                except (OSError, http.client.HTTPException, ValueError):
                    assert ended.is_set()
                    return
                assert answer.status == 200 or ended.is_set()
                if answer.status == 200:
                    answered.append(content["id"])

        with concurrent.futures.ThreadPoolExecutor(8) as clients:
            sent = [clients.submit(ask, i) for i in range(8)]
            while len(answered) < 60:
                time.sleep(0.01)
            ended.set()
            process.send_signal(ended_by)
            for future in sent:
                future.result(60)
        assert process.wait(60) in (-ended_by, 0)
    finally:
        process.kill()
        process.stderr.close()
    lines = log.read_text(encoding="utf-8").splitlines()
    logged = [json.loads(line)["id"] for line in lines]
    assert set(answered) <= set(logged) and len(set(logged)) == len(logged)
    if ended_by == signal.SIGTERM:
        assert len(logged) == len(answered), "what was computed was sent too"
    assert all(math.isclose(sum(json.loads(line)["probabilities"].values()), 1, abs_tol=1e-5) for line in lines)


# --- by vLLM ----------------------------------------------------------------------------------------------------------

WIDER = {**SIZES, "hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}  # as vLLM has


def export_for_vllm(folder) -> Exported:
    """An export with merged weights."""
    exported = write_export(folder, sizes=WIDER)
    base = model_folder(read_json(exported.manifest), exported.manifest)
    write_merged(base, exported.adapter, "float32", exported.merged)
    return exported


def test_an_engine_that_cannot_answer_is_one_line(export, monkeypatch, tmp_path):
    monkeypatch.setattr(serve, "start_models", lambda: pytest.fail("loaded"))
    for engine, said in (
        ("sglang", "ENGINE: 'sglang' is no engine; take transformers or vllm"),
        ("vllm", "ENGINE: vllm is not installed; run make setup-vllm"),
    ):
        monkeypatch.setattr(engines, "FOLDER", tmp_path / "none")
        with pytest.raises(UserError) as error:
            serve.main([str(export.folder), "--engine", engine])
        assert str(error.value) == said
    stand_in("vllm", tmp_path, monkeypatch, "exit 3")
    with pytest.raises(UserError, match="merged: is not there: .*leave ENGINE out"):
        serve.main([str(export.folder), "--engine", "vllm"])
    with pytest.raises(UserError) as error:
        VllmScores(tmp_path, torch.float32, LabelTrie([[1, 2], [3, 2]]), 8, None)
    assert str(error.value) == "ENGINE: vllm: vLLM ended (status 3); it says above why; ENGINE=transformers serves too"


def check_served_by_vllm(exported: Exported) -> None:
    """vLLM's probabilities are ours; once its process is gone, the server says so."""
    by_vllm, ours = load_served(exported, "vllm"), load_served(exported)
    split = draw_splits(RULESET, {"train": 4, "validation": 4, "test": 4, "holdout": 8}, seed=0)["holdout"]
    prompts = [tuple(ours.prompt(messages)) for messages in render_prompts(RULESET, split)]
    here = running(Server(by_vllm, Access()))
    try:
        found, expected = (
            policy.trie.reply_log_probs(policy.branch_log_probs(prompts)).exp() for policy in (by_vllm, ours)
        )
        assert float((found - expected).abs().max()) < 1e-6 and float(expected.std(0).max()) > 1e-4
        assert send(here.port, OK)[0] == 200 and get(here.port, "/health") == (200, "ok")
        by_vllm.scores._process.kill()
        by_vllm.scores._process.wait()
        assert send(here.port, OK)[0] == 500 and get(here.port, "/health") == (503, "failed")
    finally:
        here.stop()


def get(port: int, path: str) -> tuple[int, str]:
    """Status of an answer, and the one that it tells."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())["status"]


@pytest.mark.slow
def test_what_another_process_scores_is_served(tmp_path, monkeypatch):
    """Questions and answers pass the pipes whole: by a stand-in that makes plain forward passes."""
    program = ROOT / "tests/deployment/plain_service.py"
    stand_in("vllm", tmp_path / "engines", monkeypatch, f'exec "{sys.executable}" "{program}"')
    exported = export_for_vllm(tmp_path / "export")
    check_served_by_vllm(exported)
    alone = load_served(exported, "vllm")
    with pytest.raises(RuntimeError, match="^vLLM: ValueError: too short$"):
        alone.branch_log_probs([(1,)])
    assert alone.branch_log_probs([(1, 2)]).shape[0] == 1, "it goes on after an error"
    alone.scores.close()
    assert alone.scores._process.returncode == 0


@pytest.mark.engines("vllm")
def test_vllm_serves_what_our_own_code_does(tmp_path):
    check_served_by_vllm(export_for_vllm(tmp_path))
