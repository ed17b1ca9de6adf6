"""What OpenAI's client sees of `genarm serve`. clients.sh starts the servers and runs this with pytest:

CLIENTS_TINY   the tiny model, ARMs kind, short and both, which depends on a preference, each of weight 0
CLIENTS_REAL   the default model, ARMs one and two, each of weight 0
CLIENTS_KEYED  the tiny model with --api-key first,second
CLIENTS_PLAIN, CLIENTS_KIND   what `genarm generate --temp 0 -n 40` answers to PROMPT: alone, and with kind at weight 2

Whatever a server sends, streamed or not, must be what its /openapi.json says, without a field beyond that.
"""
import asyncio
import functools
import json
import math
import os
import time
import urllib.request

import jsonschema
import openai
import pydantic
import pytest

TINY, REAL, KEYED = (os.environ["CLIENTS_" + name] for name in ("TINY", "REAL", "KEYED"))
PROMPT = "How do I bake bread?"
ASK = {"model": "any", "messages": [{"role": "user", "content": PROMPT}]}
GREEDY = {"temperature": 0, "max_tokens": 40}
LETTERS = 'root ::= [a-z ]*'
KINDS = {"chat.completion": "ChatCompletion", "chat.completion.chunk": "ChatCompletionChunk", "text_completion": "Completion",
         "list": "Models", "model": "Model"}


def fetch(base, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def closed(schema):
    """The schema without room for properties that it does not name."""
    if isinstance(schema, list):
        return [closed(x) for x in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema


COMPONENTS = closed(fetch(TINY, "/openapi.json")["components"])


@functools.cache
def validator(name):
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": COMPONENTS})


def conforms(value, name):
    validator(name).validate(value)


def check_reply(reply):
    if "application/json" in reply.headers["content-type"]:
        reply.read()
        value = reply.json()
        if not reply.is_success or "object" in value:
            conforms(value, KINDS[value["object"]] if reply.is_success else "ErrorResponse")


def connect(base, key="unused"):
    http = openai.DefaultHttpxClient(event_hooks={"response": [check_reply]})
    return openai.OpenAI(base_url=base + "/v1", api_key=key, max_retries=0, timeout=120, http_client=http)


@pytest.fixture(scope="session")
def tiny():
    return connect(TINY)


@pytest.fixture(scope="session")
def real():
    return connect(REAL)


def collect(stream):
    """All chunks, each as described."""
    chunks = list(stream)
    for chunk in chunks:
        value = chunk.model_dump(exclude_unset=True)
        conforms(value, KINDS[value["object"]])
    assert len({chunk.id for chunk in chunks}) == 1
    return chunks


def joined(chunks, index=0):
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == index)


def arms(**weights):
    return {"arms": {"kind": 0, "short": 0, "both": 0, **weights}}


def answer(client, **options):
    return client.chat.completions.create(**{**ASK, **options}).choices[0]


def text(client, **options):
    return answer(client, **options).message.content


# ---- models -----------------------------------------------------------------------------------------------------


def test_models_are_listed_and_found_by_name(tiny):
    (model,) = tiny.models.list().data
    assert model.meta["arms"] == ["kind", "short", "both"]
    assert tiny.models.retrieve(model.id) == model
    with pytest.raises(openai.NotFoundError):
        tiny.models.retrieve("another")


# ---- answers ----------------------------------------------------------------------------------------------------


def test_an_answer_has_what_clients_read(tiny):
    reply = tiny.chat.completions.create(**ASK, max_tokens=8, seed=1, logit_bias={})
    assert reply.choices[0].message.role == "assistant" and reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert abs(reply.created - time.time()) < 600 and reply.seed == 1 and reply._request_id
    named = tiny.chat.completions.create(**ASK, max_tokens=1, extra_headers={"X-Request-Id": "mine.1"})
    assert named._request_id == "mine.1"


@pytest.mark.parametrize("options", [{"seed": 3}, {"seed": 4, "temperature": 1.7}, {"temperature": 0}])
def test_streamed_chunks_join_to_the_answer(tiny, options):
    whole = answer(tiny, **options, max_tokens=60)
    chunks = collect(tiny.chat.completions.create(**ASK, **options, max_tokens=60, stream=True))
    assert joined(chunks) == whole.message.content
    first, last = chunks[0].choices[0], chunks[-1].choices[0]
    assert first.delta.role == "assistant" and first.delta.content == "" and first.finish_reason is None
    assert last.finish_reason == whole.finish_reason and not last.delta.content
    assert all(chunk.choices[0].finish_reason is None for chunk in chunks[:-1]) and chunks[-1].timings and not chunks[-1].usage


def test_the_client_follows_a_stream(tiny):
    options = {**ASK, "seed": 6, "logprobs": True, "top_logprobs": 2, "extra_body": {"grammar": "root ::= [a-z]{20}"}}
    with tiny.chat.completions.stream(**options) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion().choices[0]
    whole = tiny.chat.completions.create(**options).choices[0]
    assert deltas == final.message.content == whole.message.content and final.finish_reason == whole.finish_reason
    assert [t.token for t in final.logprobs.content] == [t.token for t in whole.logprobs.content]


def test_usage_is_the_last_chunk_when_asked_for(tiny):
    options = {**ASK, "max_tokens": 12, "seed": 2}
    chunks = collect(tiny.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and all(chunk.usage is None for chunk in chunks[:-1])
    whole = tiny.chat.completions.create(**options).usage
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)


def test_several_answers_to_one_prompt(tiny):
    options = {**ASK, "n": 2, "seed": 5, "temperature": 1.5, "max_tokens": 24}
    reply = tiny.chat.completions.create(**options)
    texts = [choice.message.content for choice in reply.choices]
    assert [choice.index for choice in reply.choices] == [0, 1] and texts[0] != texts[1]
    chunks = collect(tiny.chat.completions.create(**options, stream=True))
    assert [joined(chunks, 0), joined(chunks, 1)] == texts
    assert sorted(c.index for chunk in chunks for c in chunk.choices if c.finish_reason) == [0, 1]


def test_a_seed_repeats_an_answer(tiny):
    options = {"temperature": 1.5, "max_tokens": 24}
    assert text(tiny, **options, seed=7) == text(tiny, **options, seed=7) != text(tiny, **options, seed=8)
    once, again = (tiny.chat.completions.create(**ASK, **options) for _ in range(2))
    assert once.seed != again.seed and once.choices[0].message.content != again.choices[0].message.content
    assert text(tiny, **options, seed=once.seed) == once.choices[0].message.content


def test_an_answer_ends_before_a_stop_text(tiny):
    options = {"temperature": 0, "max_tokens": 60, "extra_body": {"grammar": LETTERS}}
    whole = text(tiny, **options)
    stop = whole[10:13]
    assert whole.isascii() and len(stop) == 3
    for stops in (stop, [stop], ["nowhere to be seen", stop]):
        cut = answer(tiny, **options, stop=stops)
        assert cut.message.content == whole[:whole.index(stop)] and cut.finish_reason == "stop"
    assert joined(collect(tiny.chat.completions.create(**ASK, **options, stop=stop, stream=True))) == whole[:whole.index(stop)]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_max_tokens_is_the_length_of_an_answer(tiny, field):
    reply = tiny.chat.completions.create(**ASK, **{field: 5}, extra_body={"grammar": "root ::= [a-z]{40}"})
    assert reply.usage.completion_tokens == 5 and reply.choices[0].finish_reason == "length"


def test_roles_and_parts_of_messages(tiny):
    def ask(*messages):
        return tiny.chat.completions.create(model="any", messages=list(messages), **GREEDY).choices[0].message.content
    user = {"role": "user", "content": PROMPT}
    parts = {"role": "user", "content": [{"type": "text", "text": PROMPT[:6]}, {"type": "text", "text": PROMPT[6:]}]}
    assert ask(parts) == ask(user)
    assert ask({"role": "developer", "content": "Be brief."}, user) == ask({"role": "system", "content": "Be brief."}, user)
    assert ask(user, {"role": "assistant", "content": "In an oven."}, {"role": "user", "content": "Why?"})


def test_an_answer_goes_into_a_history_as_it_is(tiny):
    first = answer(tiny, **GREEDY).message
    said = {"role": "assistant", "content": first.content}
    texts = [tiny.chat.completions.create(model="any", messages=[*ASK["messages"], message, *ASK["messages"]], **GREEDY)
             .choices[0].message.content for message in (said, first, first.model_dump(), first.model_dump(exclude_none=True))]
    assert len(set(texts)) == 1


def test_what_steers_nothing_is_accepted(tiny):
    plain = text(tiny, **GREEDY)
    assert text(tiny, **GREEDY, user="me", metadata={"a": "b"}, store=False, service_tier="auto", presence_penalty=0,
                frequency_penalty=0, logprobs=False, reasoning_effort="low") == plain
    llama = {"reasoning_format": "auto", "backend_sampling": False, "return_progress": True, "typ_p": 1,
             "chat_template_kwargs": {}}
    assert text(tiny, **GREEDY, extra_body=llama) == plain
    fetch(TINY, "/completion", {"prompt": PROMPT, "n_predict": 1, "n": 1, "n_cmpl": 1})


# ---- log-probabilities --------------------------------------------------------------------------------------------


def check_token(token):
    assert token.logprob <= 1e-6 and bytes(token.bytes).decode(errors="replace") == token.token
    top = [x.logprob for x in token.top_logprobs]
    assert top == sorted(top, reverse=True) and sum(map(math.exp, top)) <= 1 + 1e-4
    # log pi = log pi_base + sum of weighted log pi_ARM - log Z, Z the same for all tokens of a step.
    for x in token.top_logprobs[1:]:
        apart = [mixed(t.parts) for t in (token.top_logprobs[0], x)]
        assert abs(top[0] - x.logprob - (apart[0] - apart[1])) < 2e-2


def mixed(parts):
    return parts["base"] + 1.5 * parts["arms"]["one"] - 0.5 * parts["arms"]["two"]


def test_logprobs_spell_the_answer_and_obey_the_mixture(real):
    options = {"temperature": 0, "max_tokens": 12, "logprobs": True, "top_logprobs": 5,
               "extra_body": {"arms": {"one": 1.5, "two": -0.5}}}
    whole = answer(real, **options)
    tokens = whole.logprobs.content
    assert b"".join(bytes(t.bytes) for t in tokens).decode() == whole.message.content
    for token in tokens:
        assert len(token.top_logprobs) == 5 and token.token == token.top_logprobs[0].token
        assert abs(token.logprob - token.top_logprobs[0].logprob) < 1e-5
        check_token(token)
    chunks = collect(real.chat.completions.create(**ASK, **options, stream=True))
    streamed = [t for chunk in chunks for c in chunk.choices if c.logprobs for t in c.logprobs.content]
    assert [t.token for t in streamed] == [t.token for t in tokens]


def test_logprobs_without_alternatives(tiny):
    tokens = answer(tiny, max_tokens=6, seed=1, logprobs=True).logprobs.content
    assert tokens and all(t.top_logprobs == [] for t in tokens)


def test_all_probabilities_of_few_tokens_sum_to_one(tiny):
    bias = {token: 100 for token in fetch(TINY, "/tokenize", {"content": "abc"})["tokens"]}
    first = answer(tiny, max_tokens=1, logprobs=True, top_logprobs=20, logit_bias=bias).logprobs.content[0]
    assert first.logprob <= 0 and len(first.top_logprobs) == 20


# ---- what steers ------------------------------------------------------------------------------------------------


def test_logit_bias_forbids_and_favours_tokens(tiny, real):
    (favoured,) = fetch(TINY, "/tokenize", {"content": "q"})["tokens"]
    assert text(tiny, max_tokens=4, seed=1, logit_bias={favoured: 100}) == "qqqq"
    likeliest = answer(real, temperature=0, max_tokens=1, logprobs=True).logprobs.content[0].token
    (forbidden,) = fetch(REAL, "/tokenize", {"content": likeliest})["tokens"]
    other = answer(real, temperature=0, max_tokens=1, logprobs=True, logit_bias={forbidden: -100}).logprobs.content[0]
    assert other.token != likeliest


class Loaf(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    flour: bool
    grain: str = pydantic.Field(json_schema_extra={"enum": ["rye", "wheat", "spelt"]})
    tags: list[bool] = pydantic.Field(min_length=1, max_length=3)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_answer_satisfies_a_json_schema(tiny, real, seed):
    schema = Loaf.model_json_schema()
    form = {"type": "json_schema", "json_schema": {"name": "loaf", "strict": True, "schema": schema}}
    for client in (tiny, real):
        value = json.loads(text(client, response_format=form, seed=seed, max_tokens=150))
        jsonschema.Draft202012Validator(schema).validate(value)
    value = json.loads(text(tiny, extra_body={"json_schema": schema}, seed=seed, max_tokens=150))
    jsonschema.Draft202012Validator(schema).validate(value)


def test_an_answer_is_parsed_as_a_class(tiny):
    loaf = tiny.chat.completions.parse(**ASK, response_format=Loaf, seed=4, max_tokens=150).choices[0].message.parsed
    assert loaf.grain in ("rye", "wheat", "spelt") and 1 <= len(loaf.tags) <= 3


def test_json_object_is_an_object(real):
    choice = answer(real, response_format={"type": "json_object"}, temperature=0, max_tokens=8)
    assert choice.message.content.lstrip().startswith("{")
    (close,) = fetch(REAL, "/tokenize", {"content": "}"})["tokens"]
    choice = answer(real, response_format={"type": "json_object"}, temperature=0, max_tokens=60, logit_bias={close: 60})
    assert isinstance(json.loads(choice.message.content), dict) and choice.finish_reason == "stop"


def spelled(tokens):
    """The text of tokens of completions: those that are parts of characters are named by their bytes."""
    parts = (bytes.fromhex(t[6:].replace("\\x", "")) if t.startswith("bytes:") else t.encode() for t in tokens)
    return b"".join(parts).decode(errors="replace")


def test_zero_characters_are_text(tiny):
    zero = next(token for token in range(300) if fetch(TINY, "/detokenize", {"tokens": [token]})["content"] == "\0")
    bias = {token: 100 for token in [zero, *fetch(TINY, "/tokenize", {"content": "ab"})["tokens"]]}
    options = {"model": "any", "prompt": "x", "temperature": 20, "seed": 1, "max_tokens": 12, "logprobs": 0, "logit_bias": bias}
    whole = tiny.completions.create(**options).choices[0]
    chunks = collect(tiny.completions.create(**options, stream=True))
    assert "\0" in whole.text.rstrip("\0") and whole.text == spelled(whole.logprobs.tokens)
    assert "".join(c.text for chunk in chunks for c in chunk.choices) == whole.text


def test_a_grammar_is_obeyed(tiny):
    for seed in range(4):
        assert text(tiny, seed=seed, extra_body={"grammar": 'root ::= "yes" | "no"'}) in ("yes", "no")


# ---- ARMs -------------------------------------------------------------------------------------------------------


def test_weights_of_zero_are_no_arms(tiny):
    for extra in ({}, arms(), {"arms": {}}, {"arms": {"kind": 0}}):
        assert text(tiny, **GREEDY, extra_body=extra) == os.environ["CLIENTS_PLAIN"]


def test_a_weight_changes_the_answer_as_in_generate(tiny):
    reply = tiny.chat.completions.create(**ASK, **GREEDY, extra_body=arms(kind=2))
    assert reply.choices[0].message.content == os.environ["CLIENTS_KIND"] != os.environ["CLIENTS_PLAIN"]
    assert reply.arms == {"kind": 2, "short": 0, "both": 0}


def test_a_weight_is_of_one_request(tiny):
    assert text(tiny, **GREEDY, extra_body=arms(kind=2)) == os.environ["CLIENTS_KIND"]
    assert text(tiny, **GREEDY) == os.environ["CLIENTS_PLAIN"]


def test_schedules_and_entropy_bound_the_steering(tiny):
    def steered(**extra):
        return text(tiny, **GREEDY, extra_body={**arms(kind=2), **extra})
    assert steered(arm_schedules={"kind": [[0, 1], [9, 1]]}) == os.environ["CLIENTS_KIND"]
    assert text(tiny, **GREEDY, extra_body={**arms(kind=4), "arm_schedules": {"kind": [[0, 0.5]]}}) == os.environ["CLIENTS_KIND"]
    assert steered(arm_schedules={"kind": [[0, 0]]}) == os.environ["CLIENTS_PLAIN"]
    assert steered(min_entropy=0) == os.environ["CLIENTS_KIND"]
    assert steered(min_entropy=50) == os.environ["CLIENTS_PLAIN"]


def test_a_preference_changes_a_conditioned_arm(tiny):
    objectives = next(arm["objectives"] for arm in fetch(TINY, "/arms") if arm["name"] == "both")
    answers = set()
    for chosen in objectives:
        preference = {"both": {name: float(name == chosen) for name in objectives}}
        answers.add(text(tiny, **GREEDY, extra_body={**arms(both=4), "preferences": preference}))
    assert len(objectives) > 1 and len(answers) > 1


@pytest.mark.parametrize("extra", [
    {"arms": {"knid": 1}}, {"arms": {"kind": "1"}}, {"arms": [1]}, {"arms": {"kind": None}}, {"preferences": {"kind": {"x": 1}}},
    {"preferences": {"both": {"nothing": 1}}}, {"arm_schedules": {"kind": [[3, 1], [1, 1]]}}, {"arm_schedules": {"kind": []}},
    {"min_entropy": -1}])
def test_wrong_steering_is_a_bad_request(tiny, extra):
    with pytest.raises(openai.BadRequestError) as caught:
        text(tiny, extra_body=extra)
    assert caught.value.type == "invalid_request_error" and caught.value.param == next(iter(extra))


def test_an_unknown_arm_is_named(tiny):
    with pytest.raises(openai.BadRequestError, match="knid"):
        text(tiny, extra_body={"arms": {"knid": 1}})


# ---- errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field, value", [
    ("temperature", -1), ("temperature", "hot"), ("top_p", 2), ("n", 0), ("n", 100000), ("seed", "x"), ("stop", [""] * 17),
    ("logit_bias", {"word": 1}), ("logit_bias", {"1": 101}), ("top_logprobs", 21), ("max_tokens", -5), ("stream", "yes"),
    ("frequency_penalty", 1), ("tools", [{"type": "function", "function": {"name": "f"}}]), ("response_format", {"type": "xml"}),
    ("grammar", "root ::= ("), ("json_schema", {"type": "nothing"}), ("messages", []), ("messages", "hello"),
    ("messages", [{"role": "robot", "content": "x"}]), ("messages", [{"role": "user"}]), ("temprature", 1)])
def test_a_wrong_field_is_named(tiny, field, value):
    body = {"logprobs": True, field: value} if field == "top_logprobs" else {field: value}
    with pytest.raises(openai.BadRequestError) as caught:
        text(tiny, extra_body=body)
    error = caught.value
    assert error.status_code == 400 and error.body["code"] == 400 and error.param == field and error.message
    if field == "temprature":
        assert "temperature" in error.message


def test_a_prompt_beyond_the_context_is_said_so(tiny):
    with pytest.raises(openai.BadRequestError) as caught:
        tiny.chat.completions.create(model="any", messages=[{"role": "user", "content": "bread " * 4000}])
    assert caught.value.type == "exceed_context_size_error"
    assert caught.value.body["n_prompt_tokens"] > caught.value.body["n_ctx"] > 0


def test_keys_are_needed_where_there_are_some():
    for key in ("first", "second"):
        assert text(connect(KEYED, key), max_tokens=1) is not None
    for key in ("third", "firs", "first,second", "unused"):
        with pytest.raises(openai.AuthenticationError) as caught:
            connect(KEYED, key).models.list()
        assert caught.value.body["code"] == 401 and caught.value.type == "authentication_error"


def test_what_is_not_there_is_not_found(tiny):
    with pytest.raises(openai.NotFoundError):
        tiny.embeddings.create(model="any", input="x")
    with pytest.raises(openai.NotFoundError):
        tiny.responses.create(model="any", input="x")


# ---- completions --------------------------------------------------------------------------------------------------


def test_completions_join_and_repeat(tiny):
    options = {"model": "any", "prompt": "Once", "max_tokens": 30, "seed": 3}
    whole = tiny.completions.create(**options)
    chunks = collect(tiny.completions.create(**options, stream=True))
    assert "".join(c.text for chunk in chunks for c in chunk.choices) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_several_prompts_have_a_choice_each(tiny):
    options = {"model": "any", "max_tokens": 10, "temperature": 0}
    both = tiny.completions.create(prompt=["Once", "Twice"], **options).choices
    assert [choice.index for choice in both] == [0, 1]
    assert [c.text for c in both] == [tiny.completions.create(prompt=p, **options).choices[0].text for p in ("Once", "Twice")]


def test_tokens_are_a_prompt(tiny):
    tokens = fetch(TINY, "/tokenize", {"content": "Once", "add_special": True})["tokens"]
    once, again = (tiny.completions.create(model="any", prompt=p, **GREEDY).choices[0].text for p in (tokens, "Once"))
    assert once == again


def test_echo_scores_the_prompt(tiny):
    prompt = "Once upon a time"
    choice = tiny.completions.create(model="any", prompt=prompt, echo=True, max_tokens=0, logprobs=2).choices[0]
    scores = choice.logprobs
    begin = len(scores.tokens[0]) if scores.tokens[0].startswith("<|") else 0  # a token that begins texts has none
    assert choice.text == prompt == "".join(scores.tokens)[begin:]
    assert scores.token_logprobs[0] is None and all(x <= 0 for x in scores.token_logprobs[1:])
    assert len({len(x) for x in (scores.tokens, scores.token_logprobs, scores.text_offset)}) == 1
    assert scores.text_offset == [max(0, len("".join(scores.tokens[:i])) - begin) for i in range(len(scores.tokens))]


def test_an_answer_is_scored_as_it_was_made(tiny):
    options = {"model": "any", "temperature": 0, "logprobs": 1, "extra_body": {"arms": {"kind": 1.5}}}
    made = tiny.completions.create(prompt="Once", max_tokens=10, echo=True, **options).choices[0]
    scored = tiny.completions.create(prompt=made.text, max_tokens=0, echo=True, **options).choices[0]
    if made.logprobs.tokens == scored.logprobs.tokens:  # the tokens that a text has need not be those that made it
        pairs = zip(made.logprobs.token_logprobs[1:], scored.logprobs.token_logprobs[1:])
        assert all(abs(a - b) < 1e-3 for a, b in pairs)


# ---- many clients -------------------------------------------------------------------------------------------------


def test_parallel_streams_are_as_alone(tiny):
    def options(i):
        return {"model": "any", "messages": [{"role": "user", "content": f"{PROMPT} {i}"}], "max_tokens": 40, "seed": i,
                "extra_body": arms(kind=i / 4)}

    async def stream(client, i):
        return joined([chunk async for chunk in await client.chat.completions.create(**options(i), stream=True)])

    async def together():
        async with openai.AsyncOpenAI(base_url=TINY + "/v1", api_key="unused", max_retries=0, timeout=120) as client:
            return await asyncio.gather(*(stream(client, i) for i in range(8)))
    assert asyncio.run(together()) == [tiny.chat.completions.create(**options(i)).choices[0].message.content for i in range(8)]


def busy(base):
    return [slot for slot in fetch(base, "/slots") if slot["is_processing"]]


def test_a_stream_that_is_closed_frees_its_slot(real):
    stream = real.chat.completions.create(**ASK, extra_body={"grammar": "root ::= [a-z ]{4000}"}, stream=True)
    chunks = iter(stream)
    first = [next(chunks) for _ in range(4)][0]
    (slot,) = busy(REAL)
    assert slot["id_task"] == first.id and slot["arms"] == {"one": 0, "two": 0}
    stream.close()
    until = time.monotonic() + 20
    while busy(REAL) and time.monotonic() < until:
        time.sleep(0.1)
    assert not busy(REAL)


def test_a_request_that_times_out_frees_its_slot(real):
    with pytest.raises(openai.APITimeoutError):
        text(real.with_options(timeout=1), extra_body={"grammar": "root ::= [a-z ]{4000}"})
    until = time.monotonic() + 20
    while busy(REAL) and time.monotonic() < until:
        time.sleep(0.1)
    assert not busy(REAL)


def test_weights_change_while_an_answer_runs(real):
    chunks = iter(real.chat.completions.create(**ASK, extra_body={"grammar": "root ::= [a-z ]{200}"}, stream=True))
    first = next(chunks)
    changed = real.post(f"/requests/{first.id}/arms", body={"one": 1.25}, cast_to=object)
    assert changed["id"] == first.id and changed["arms"] == {"one": 1.25, "two": 0} and len(changed["n_tokens"]) == 1
    assert list(chunks)[-1].arms == {"one": 1.25, "two": 0}
