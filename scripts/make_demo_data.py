#!/usr/bin/env python3
"""Makes data/demo: preference pairs for two objectives that conflict, cheerful and concise.

    make_demo_data.py -m models/SmolLM2-135M-Instruct-Q4_1.gguf

1. Splits the prompts of data/demo/questions.txt by a hash of their text: dev, test, train. The prompts that
   the demo answers are those of data/demo/heldout.txt.
2. Samples answers to each train and test prompt from the model (its chat template) after two example
   exchanges that show a manner (EXAMPLES). All are stored under the plain prompt; only answers that
   end by themselves are kept.
3. Scores them by the ground-truth rewards of demo_reward.py and pairs, for each prompt and objective,
   the better against the worse.

Samples are kept in --samples, so that a second run only pairs. Every sample has a seed of its own,
made from its prompt, style and number: with one model, library and number of --parallel and --threads the
data comes out the same. Other kernels round otherwise, and a sampled answer may then differ.
Needs scripts/requirements-demo-data.txt and vaderSentiment. About half an hour on two cores.
"""
import argparse
import ctypes
import hashlib
import json
import os
import re
import sys
import time
from collections import Counter, deque
from itertools import combinations
from pathlib import Path

import numpy as np

import demo_reward

ROOT = Path(__file__).resolve().parent.parent

N_DEV = 120   # prompts for choosing settings
N_TEST = 110  # prompts of the held-out pairs

# Two exchanges go before the prompt and show the manner that an answer is asked for; which two
# depends on the prompt. None of these questions is a prompt.
EXAMPLES = [
    ("What should I do on a rainy day?", {
        "short": "Stay in and read a book.",
        "joyful": "What a lovely gift, a rainy day! Make some hot cocoa and enjoy a happy, cosy afternoon with a "
                  "dear friend!",
        "level": "You can stay inside and sort your papers. Other options are cleaning the kitchen or watching "
                 "a film that you have not seen yet."}),
    ("Why do we need sleep?", {
        "short": "The body and the brain recover.",
        "joyful": "Sweet sleep fills you with energy, so you can wake up with a smile and love your day. Isn't "
                  "that wonderful!",
        "level": "During sleep the brain sorts what it took in during the day. The body repairs its cells, and "
                 "without it people react more slowly."}),
    ("I bought a new chair.", {
        "short": "Put it by the window.",
        "joyful": "Congratulations, I am so happy for you! I hope your beautiful chair brings you "
                  "many joyful evenings!",
        "level": "A new chair needs some time before it fits your back. Set the height so that both feet are "
                 "flat on the floor."}),
    ("How do I cook carrots?", {
        "short": "Boil them for eight minutes.",
        "joyful": "You are going to love this! Roast them with honey and enjoy a delicious treat with your friends!",
        "level": "Cut them into slices and put them in a pot with some water and salt. They are done after "
                 "about eight minutes on medium heat."}),
    ("What is a lighthouse?", {
        "short": "A tower with a light for ships.",
        "joyful": "A lighthouse is a brave friend by the sea! Its bright, beautiful light brings sailors "
                  "home, how wonderful!",
        "level": "A lighthouse is a tower on the coast with a lamp at the top. The light shows ships where the "
                 "land and the rocks are."}),
    ("Should I repaint my old bicycle?", {
        "short": "Only if the frame has rust.",
        "joyful": "Yes, what a fantastic idea! A fresh, happy colour will make you smile with pride "
                  "on every lovely ride!",
        "level": "It depends on the state of the frame. Remove the old paint and the rust first, then put on "
                 "two thin layers and let each one dry."}),
]
SAMPLES = {"short": 2, "joyful": 3, "level": 1}  # manner -> answers per prompt
TEMPERATURE, MIN_P, MAX_TOKENS = 1.0, 0.1, 64

MIN_GAP = {"cheerful": 0.3, "concise": 10.0}  # least difference of the rewards of a pair
MAX_PAIRS = {"train": 640, "test": 120}       # per objective
MAX_LENGTH_RATIO = 1.5                        # of the pairs of about equal length, in tokens
TELLING = {"cocoa", "carrot", "carrots", "honey", "lighthouse", "sailor", "sailors", "bicycle", "bike", "rust", "chair",
           "chairs"}  # words of the examples that give an answer away that is about them
UNSUITABLE = re.compile(
    r"\b(kill\w*|murder\w*|suicid\w*|sex\w*|nude|naked|porn\w*|rap(?:e|ed|ist)|gun|guns|drugs?|cocaine|blood\w*|"
    r"corpse|terroris\w*|nazi\w*|hitler|slave\w*|racis\w*|damn|hell|bitch\w*|ass|stupid|idiot\w*|cancer|died|dead|"
    r"death|penis|vagina|breasts?|virgin|prostitut\w*|alcohol\w*|drunk|cigarettes?|assistant|user|AI)\b", re.IGNORECASE)


def seed_of(*parts):
    """A 64-bit number made from the text of the parts, the same on every machine."""
    digest = hashlib.sha256("\x1f".join(str(p) for p in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def read_lines(path):
    """The prompts of a file, without empty lines and those that begin with #."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def read_prompts(folder):
    """{"held_out" | "dev" | "test" | "train": [prompt]}, each in the order of its file."""
    held_out, prompts = read_lines(folder / "heldout.txt"), read_lines(folder / "questions.txt")
    seen = Counter(p.casefold() for p in held_out + prompts)
    for prompt, n in seen.items():
        if n > 1:
            raise SystemExit(f"{folder}: this prompt occurs twice: {prompt}")
    ranked = sorted(prompts, key=lambda p: seed_of("split", p))
    dev, test = set(ranked[:N_DEV]), set(ranked[N_DEV:N_DEV + N_TEST])
    return {
        "held_out": held_out,
        "dev": [p for p in prompts if p in dev],
        "test": [p for p in prompts if p in test],
        "train": [p for p in prompts if p not in dev and p not in test],
    }


class Sampler:
    """Samples many answers at once: one row per running answer in every call of llama_decode.

    A request is {"chat": [(role, text), ...], "seeds": [...]}: one answer per seed. What comes before
    the last message is evaluated once for all requests that share it, and then copied.
    """

    def __init__(self, model_path, n_parallel, n_prefix, n_threads, n_context=192):
        import llama_cpp.llama_cpp as L

        self.L = L
        self.quiet = L.llama_log_callback(lambda *_: None)  # kept: libllama holds only a pointer to it
        L.llama_log_set(self.quiet, ctypes.c_void_p(0))
        L.llama_backend_init()
        self.model = L.llama_model_load_from_file(os.fsencode(model_path), L.llama_model_default_params())
        if not self.model:
            raise SystemExit(f"{model_path}: libllama can't load it")
        self.vocab = L.llama_model_get_vocab(self.model)
        self.n_vocab = L.llama_vocab_n_tokens(self.vocab)
        self.template = L.llama_model_chat_template(self.model, None)
        params = L.llama_context_default_params()
        params.n_seq_max = n_parallel + n_prefix
        params.n_ctx = n_context * params.n_seq_max  # one cache, whose cells a prefix shares with its answers
        params.n_batch = params.n_ubatch = 2048
        params.n_threads = params.n_threads_batch = n_threads
        params.kv_unified = True
        params.flash_attn_type = L.LLAMA_FLASH_ATTN_TYPE_ENABLED  # skips the cells of other answers
        self.context = L.llama_init_from_model(self.model, params)
        if not self.context:
            raise SystemExit(f"{model_path}: no context for {params.n_seq_max} sequences")
        self.memory = L.llama_get_memory(self.context)
        self.batch = L.llama_batch_init(params.n_batch, 0, 1)
        self.n_parallel = n_parallel
        self.free_prefixes = list(range(n_parallel, n_parallel + n_prefix))
        self.prefixes = {}  # text -> (sequence, number of tokens)

    def text_of_chat(self, chat, open_answer):
        L = self.L
        kept = [(role.encode(), text.encode()) for role, text in chat]
        messages = (L.llama_chat_message * len(kept))(*(L.llama_chat_message(*m) for m in kept))
        text = ctypes.create_string_buffer(8192)
        n = L.llama_chat_apply_template(self.template, messages, len(kept), open_answer, text, len(text))
        if not 0 <= n < len(text):
            raise SystemExit(f"the chat template fails on {chat!r}")
        return text.raw[:n]

    def tokens_of(self, text):
        ids = (self.L.llama_token * 1024)()
        n = self.L.llama_tokenize(self.vocab, text, len(text), ids, len(ids), True, True)
        if n <= 0:
            raise SystemExit(f"can't tokenise {text!r}")
        return list(ids[:n])

    def text_of(self, tokens):
        pieces = []
        buffer = ctypes.create_string_buffer(256)
        for token in tokens:
            n = self.L.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            pieces.append(buffer.raw[:n])
        return b"".join(pieces).decode("utf-8", errors="replace")

    def sample(self, requests):
        """Yields (request, seed, text, n_tokens, ended) as answers finish."""
        waiting = deque(requests)
        running = {}  # slot -> {"request", "seed", "rng", "position", "tokens", "row"}
        while waiting or running:
            self.batch.n_tokens = 0
            for slot, state in running.items():
                state["row"] = self._add(state["tokens"][-1], state["position"], slot, 1)
                state["position"] += 1
            free = [slot for slot in range(self.n_parallel) if slot not in running]
            copies = []
            while waiting and len(waiting[0]["seeds"]) <= len(free):
                copies += self._start(waiting.popleft(), free, running)
            self._decode()
            for source, target in copies:
                self.L.llama_memory_seq_cp(self.memory, source, target, -1, -1)
            for slot, state in list(running.items()):
                token = self._draw(state["row"], state["rng"])
                ended = bool(self.L.llama_vocab_is_eog(self.vocab, token))
                if not ended:
                    state["tokens"].append(token)
                if ended or len(state["tokens"]) == MAX_TOKENS:
                    self.L.llama_memory_seq_rm(self.memory, slot, -1, -1)
                    del running[slot]
                    tokens = state["tokens"]
                    yield state["request"], state["seed"], self.text_of(tokens), len(tokens), ended

    def _start(self, request, free, running):
        """Adds the request's prompt to the batch; returns the copies (from, to) to make after it."""
        whole = self.text_of_chat(request["chat"], True)
        before = self.text_of_chat(request["chat"][:-1], False) if len(request["chat"]) > 1 else b""
        assert whole.startswith(before)
        slots = [free.pop(0) for _ in request["seeds"]]
        done = 0
        if before:
            sequence, done = self._prefix(before)
            self.L.llama_memory_seq_cp(self.memory, sequence, slots[0], -1, -1)
        tokens = self.tokens_of(whole[len(before):])
        for i, token in enumerate(tokens):
            row = self._add(token, done + i, slots[0], i == len(tokens) - 1)
        for slot, seed in zip(slots, request["seeds"]):
            running[slot] = {"request": request, "seed": seed, "rng": np.random.default_rng(seed),
                             "position": done + len(tokens), "tokens": [], "row": row}
        return [(slots[0], slot) for slot in slots[1:]]

    def _prefix(self, text):
        """The sequence that holds text, and its number of tokens; evaluates it the first time."""
        if text not in self.prefixes:
            sequence, tokens = self.free_prefixes.pop(), self.tokens_of(text)
            mine, self.batch = self.batch, self.L.llama_batch_init(len(tokens), 0, 1)
            for i, token in enumerate(tokens):
                self._add(token, i, sequence, 0)
            self._decode()
            self.L.llama_batch_free(self.batch)
            self.batch = mine
            self.prefixes[text] = sequence, len(tokens)
        return self.prefixes[text]

    def _add(self, token, position, sequence, output):
        i = self.batch.n_tokens
        self.batch.token[i], self.batch.pos[i] = token, position
        self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, sequence
        self.batch.logits[i] = output
        self.batch.n_tokens = i + 1
        return i

    def _decode(self):
        if self.L.llama_decode(self.context, self.batch) != 0:
            raise SystemExit("llama_decode failed")

    def _draw(self, row, rng):
        """A token from softmax(logits / TEMPERATURE) among those of at least MIN_P times the best one's."""
        logits = np.ctypeslib.as_array(self.L.llama_get_logits_ith(self.context, row), shape=(self.n_vocab,))
        p = np.exp((logits - logits.max()) / np.float32(TEMPERATURE))
        kept = np.flatnonzero(p >= MIN_P)
        cumulative = np.cumsum(p[kept], dtype=np.float64)
        i = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
        return int(kept[min(i, len(kept) - 1)])


def requests_for(prompts, known):
    """One request per prompt and manner, for the samples that known does not hold yet."""
    for prompt in prompts:
        for manner, n_samples in SAMPLES.items():
            first = 2 * (seed_of("examples", prompt, manner) % (len(EXAMPLES) // 2))
            chat = [message for question, answers in EXAMPLES[first:first + 2]
                    for message in (("user", question), ("assistant", answers[manner]))]
            missing = [i for i in range(n_samples) if (prompt, manner, i) not in known]
            if missing:
                numbers = {seed_of("sample", prompt, manner, i): i for i in missing}
                yield {"prompt": prompt, "manner": manner, "chat": chat + [("user", prompt)],
                       "numbers": numbers, "seeds": list(numbers)}


def sample_all(prompts, args):
    """All samples of the prompts: those in args.samples, and new ones, which are added to that file."""
    known = {}
    if args.samples.exists():
        for _, record in demo_reward.read_jsonl(args.samples):
            known[record["prompt"], record["manner"], record["number"]] = record
    requests = list(requests_for(prompts, known))
    total = sum(len(r["seeds"]) for r in requests)
    if total:
        sampler = Sampler(args.model, args.parallel, len(SAMPLES) * len(EXAMPLES) // 2, args.threads)
        args.samples.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        with open(args.samples, "a", encoding="utf-8") as out:
            for n, (request, seed, text, n_tokens, ended) in enumerate(sampler.sample(requests), 1):
                record = {"prompt": request["prompt"], "manner": request["manner"],
                          "number": request["numbers"][seed], "response": text, "n_tokens": n_tokens,
                          "ended": ended}
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
                known[record["prompt"], record["manner"], record["number"]] = record
                if n % 50 == 0 or n == total:
                    left = (time.monotonic() - start) * (total - n) / n
                    print(f"\rsampled {n} of {total}, {left / 60:.1f} min left ", end="", file=sys.stderr)
        print(file=sys.stderr)
    return [known[p, m, i] for p in prompts for m, n in SAMPLES.items() for i in range(n)]


# --- pairs --------------------------------------------------------------------------------------------

def make_filter():
    """A function (sample) -> why it isn't used, or None."""
    from profanity_check import predict_prob

    copied = {four for _, answers in EXAMPLES for a in answers.values() for four in in_fours(words_of(a))}

    def why_not(sample):
        text, words = sample["response"], words_of(sample["response"])
        if not sample["ended"]:
            return "cut off"
        if "\n" in text or not re.fullmatch(r"[A-Z0-9\"'].*[.!?][\"']?", text):
            return "not one paragraph of sentences"
        if not all(c.isascii() or c in "’“”–—éèêàçñöüä" for c in text):
            return "odd characters"
        if len(words) < 3:
            return "under three words"
        if loops(words, demo_reward.sentences(text)):
            return "repeats itself"
        if copied & set(in_fours(words)) or TELLING & set(words) - set(words_of(sample["prompt"])):
            return "speaks of the examples"
        if UNSUITABLE.search(text) or predict_prob([text])[0] > 0.3:
            return "unsuitable"
        return None

    return why_not


def words_of(text):
    return re.findall(r"[a-z0-9]+(?:['’][a-z]+)?", text.lower())


def in_fours(words):
    return [tuple(words[i:i + 4]) for i in range(len(words) - 3)]


def loops(words, sentences):
    """Whether a sentence occurs twice, or four words in a row do, or a word twice in a row."""
    fours = in_fours(words)
    return (len(set(sentences)) < len(sentences) or len(set(fours)) < len(fours)
            or any(a == b for a, b in zip(words, words[1:])))


def pairs_of(samples, objective):
    """Up to two pairs of one prompt, as (better, worse)."""
    found = concise_pairs(samples) if objective == "concise" else cheerful_pairs(samples)
    return [p for p in found if gap(p, objective) >= MIN_GAP[objective]][:2]


def cheerful_pairs(samples):
    """The best sample against the worst, and the largest gap among pairs of about equal length.

    The second is there so that a reward model has to tell cheerful answers from long ones.
    """
    ranked = sorted(samples, key=lambda s: (-s["rewards"]["cheerful"], s["response"]))
    if len(ranked) < 2:
        return []
    first = ranked[0], ranked[-1]
    equal = [p for p in combinations(ranked, 2) if p != first and length_ratio(*p) <= MAX_LENGTH_RATIO]
    return [first] + sorted(equal, key=lambda p: -gap(p, "cheerful"))[:1]


def concise_pairs(samples):
    """Samples of several sentences, the longest first, each against itself ended after its first sentence.

    The two differ in nothing but where they end. Short samples against long ones would do worse: they
    also differ in manner, and a reward model learns that instead of when to stop.
    """
    pairs = []
    for sample in sorted(samples, key=lambda s: (s["rewards"]["concise"], s["response"])):
        first = demo_reward.SENTENCE_END.split(sample["response"])[0]
        share = len(first) / len(sample["response"])
        if len(words_of(first)) >= 4:
            pairs.append((dict(sample, response=first, rewards=demo_reward.rewards(first),
                               n_tokens=round(sample["n_tokens"] * share)), sample))
    return pairs


def gap(pair, objective):
    return pair[0]["rewards"][objective] - pair[1]["rewards"][objective]


def length_ratio(a, b):
    shorter, longer = sorted((a["n_tokens"], b["n_tokens"]))
    return longer / shorter


def pair_record(better, worse, objective):
    return {"prompt": better["prompt"], "chosen": better["response"], "rejected": worse["response"],
            "score_chosen": round(better["rewards"][objective], 4),
            "score_rejected": round(worse["rewards"][objective], 4)}


def write_jsonl(path, records):
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8") as out:
        for record in records:
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
    os.replace(temporary, path)


def usable(samples, why_not):
    """The samples to pair, with their rewards, by prompt; says on stderr why the others are not used."""
    by_prompt, dropped, texts = {}, Counter(), set()
    for sample in samples:
        key = (sample["prompt"], sample["response"])
        reason = why_not(sample) or ("twice" if key in texts else None)
        texts.add(key)
        if reason:
            dropped[reason] += 1
            continue
        sample["rewards"] = demo_reward.rewards(sample["response"])
        by_prompt.setdefault(sample["prompt"], []).append(sample)
    reasons = ", ".join(f"{n} {reason}" for reason, n in dropped.most_common())
    print(f"{len(samples)} samples, {sum(map(len, by_prompt.values()))} used; not used: {reasons}", file=sys.stderr)
    return by_prompt


def cut(pairs, objective, limit):
    """At most limit pairs, in their order: every prompt's first, then second ones by their gap."""
    first, second, seen = [], [], set()
    for pair in pairs:
        prompt = pair[0]["prompt"]
        (second if prompt in seen else first).append(pair)
        seen.add(prompt)
    second.sort(key=lambda p: -gap(p, objective))
    kept = {id(p) for p in (first + second)[:limit]}
    return [p for p in pairs if id(p) in kept]


def write_pairs(by_prompt, split, output):
    """Writes the split's pair files; returns {objective: pairs}."""
    written = {}
    for objective in demo_reward.OBJECTIVES:
        pairs = [pair for samples in by_prompt.values() for pair in pairs_of(samples, objective)]
        written[objective] = cut(pairs, objective, MAX_PAIRS[split])
        write_jsonl(output / f"{objective}.{split}.jsonl",
                    [pair_record(*pair, objective) for pair in written[objective]])
    return written


# --- what came out ------------------------------------------------------------------------------------

def print_summary(by_prompt, pairs):
    """The numbers of data/demo/README.md. pairs: {split: {objective: [(better, worse)]}}."""
    samples = [s for found in by_prompt.values() for s in found]
    print("| manner | used samples | words | cheerful |\n|---|---|---|---|")
    for manner in SAMPLES:
        mine = [s for s in samples if s["manner"] == manner]
        print(f"| {manner} | {len(mine)} | {np.mean([-s['rewards']['concise'] for s in mine]):.1f} "
              f"| {np.mean([s['rewards']['cheerful'] for s in mine]):.2f} |")
    both = np.array([[s["rewards"][o] for o in demo_reward.OBJECTIVES] for s in samples])
    print(f"\nCorrelation of the two rewards over all used samples: {np.corrcoef(both.T)[0, 1]:.2f}\n")
    print("| file | pairs | prompts | chosen: words, score | rejected: words, score | tokens of a response "
          "| chosen is also better by the other reward | linear probe |\n|---|---|---|---|---|---|---|---|")
    for objective in demo_reward.OBJECTIVES:
        other = next(o for o in demo_reward.OBJECTIVES if o != objective)
        for split, found in pairs.items():
            rows = found[objective]
            sides = [f"{np.mean([-p[i]['rewards']['concise'] for p in rows]):.1f}, "
                     f"{np.mean([p[i]['rewards'][objective] for p in rows]):.2f}" for i in (0, 1)]
            tokens = np.mean([s["n_tokens"] for p in rows for s in p])
            agree = np.mean([gap(p, other) > 0 for p in rows])
            probe = f"{probe_accuracy(pairs['train'][objective], rows):.2f}" if split == "test" else ""
            print(f"| {objective}.{split} | {len(rows)} | {len({p[0]['prompt'] for p in rows})} | {sides[0]} "
                  f"| {sides[1]} | {tokens:.1f} | {agree:.0%} | {probe} |")


def probe_accuracy(train, test):
    """Pairwise accuracy on test of a logistic regression on word counts and length, fitted to train."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counter = CountVectorizer(min_df=3).fit(s["response"] for pair in train for s in pair)

    def difference(pairs):
        features = [np.column_stack([counter.transform([p[i]["response"] for p in pairs]).toarray(),
                                     [p[i]["n_tokens"] / 16 for p in pairs]]) for i in (0, 1)]
        return features[0] - features[1]

    x = difference(train)
    model = LogisticRegression(fit_intercept=False, max_iter=1000)
    model.fit(np.vstack([x, -x]), np.repeat([1, 0], len(x)))
    return float(np.mean(model.decision_function(difference(test)) > 0))


def main():
    parser = argparse.ArgumentParser(description="makes the demo's preference pairs")
    parser.add_argument("-m", "--model", required=True, help="the model that the answers are sampled from")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "data" / "demo", help="where the files go")
    parser.add_argument("--samples", type=Path, default=ROOT / "demo-out" / "samples.jsonl",
                        help="where the samples are kept; those already there are not made again")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parallel", type=int, default=16, help="answers sampled at once")
    args = parser.parse_args()
    prompts = read_prompts(ROOT / "data" / "demo")
    for split, name in (("held_out", "prompts"), ("dev", "dev")):
        numbered = [{"id": f"{split[0]}{i:03d}", "prompt": prompt} for i, prompt in enumerate(prompts[split], 1)]
        write_jsonl(args.output / f"{name}.jsonl", numbered)
    why_not = make_filter()
    by_prompt, pairs = {}, {}
    for split in ("train", "test"):
        found = usable(sample_all(prompts[split], args), why_not)
        pairs[split] = write_pairs(found, split, args.output)
        by_prompt.update(found)
    print_summary(by_prompt, pairs)


if __name__ == "__main__":
    main()
