"""Writes the fixtures of package corpus.

    python fixtures.py        # needs tokenizers and pyarrow

tokenizers/NAME.json are small tokenizers of the kinds that checkpoints ship,
trained here on text made up here; expected.json holds what the reference
implementation makes of hostile texts. data/ holds dataset files as the hub's
own tools write them. The versions that wrote what is committed:
tokenizers 0.23.3, pyarrow 26.0.1.
"""

import gzip
import json
import pathlib
import random

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = "|".join([
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
])
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
]
BLOOM = " ?[^(\\s|[.,!?…。，、।۔،])]+"

HOSTILE = [
    "",
    " ",
    "a",
    "Hello, world!",
    "  leading and trailing  ",
    "many     spaces   and\ttabs\t\t end",
    "line\nline\n\nline\n\n\n\nend\n",
    "crlf\r\nline\r\n\r\nend\r",
    " \n \n\n  \n x",
    "\u00a0nbsp\u00a0\u00a0x \u3000wide\u2003em\u2028ls\u0085nel",
    "it's I'LL they'Ve we'd 's 'S ''s 'x don't’s",
    "'\u017f a'\u017f K\u212a's",
    "0 1 12 123 1234 12345 1234567890 3.14159 1,000,000 ٣٤٥ ५६७ ² ½ Ⅷ ①②",
    "def f(x, y=1):\n    return x**2 + y  # comment\n\n\nif __name__ == '__main__':\n\tprint(f(3))\n",
    "for (int i = 0; i < n; ++i) { a[i] += b[i] * c[i]; } // x\n/* y */",
    "https://example.org/a/b?c=d&e=%20f#g user@example.org",
    "Ünïcödé naïve café cafe\u0301 Å A\u030a ﬁ ligature ẛ̣",
    "Straße ΣΊΣΥΦΟΣ σίσυφος İstanbul ǅ ʰ ª",
    "日本語のテキスト。中文，没有空格。한국어 문장",
    "العربية हिन्दी ไทย עברית தமிழ்",
    "emoji 😀😃 👩‍👩‍👧‍👦 🇩🇪 🏳️‍🌈 👍🏽 \U0001f9ff x",
    "zero\u200bwidth\u200djoin\ufeffbom soft\u00adhyphen",
    "\x00nul\x01\x02\x1b[31mred\x7f",
    "\ufffd \U0010ffff \ue000 \ud7ff",
    "a" * 300,
    "ab" * 200 + "!" * 50 + " " * 60 + "\n" * 40 + "x",
    "▁metaspace ▁▁ x▁y <0x41> Ġbyte",
    "<s> text</s><unk> a <|endoftext|>b <|end|>  c<|wide|>  d  <lone> a<lone>b",
    "x<|endoftext|><|endoftext|>y",
    " <s>",
    "<|end|>",
    "The QUICK brownFox jumpsOver HTTPServer parseXML2JSON 3D x2y snake_case kebab-case",
    "a\n  b\n    c\n\td",
    "...!!!???---***///\n\n))) [[[ ]]] {{{ }}} <<< >>> ``` \"\"\" '''",
    "¿Qué? ¡Sí! «guillemets» „quotes“ – — … € £ ¥ © ® ™ ± × ÷",
    "tail space \n",
    "q\u0323\u0307 \u1e9b\u0323 \u03d3 \uac00\u11a8 \U0001d15e \U0002f800",
]


def text():
    """Made-up sentences that give merges of all lengths, and scripts, their bytes."""
    r = random.Random(4)
    nouns = "river stone market garden window letter engine number planet village kettle lantern".split()
    verbs = "carries follows watches returns explains measures forgets".split()
    adjectives = "small green quiet hollow ancient careful sudden".split()
    out = []
    for _ in range(1500):
        n, v, m, a = r.choice(nouns), r.choice(verbs), r.choice(nouns), r.choice(adjectives)
        out.append(r.choice([
            f"The {a} {n} {v} the {m}.",
            f"It's {r.randint(0, 2000)} {n}s, isn't it? They'll say so.",
            f"def {n}_{m}(x):\n    return x + {r.randint(0, 99)}\n",
            f"{n.title()}'s {m}: {r.choice('日本語 中文字 русский текст ελληνικά naïve café 😀👍'.split())}",
        ]))
    return out


def bpe(special, alphabet=True, pre=None, normalizer=None, train_pre=None, vocab=500, **kw):
    t = Tokenizer(models.BPE(**kw))
    if normalizer is not None:
        t.normalizer = normalizer
    t.pre_tokenizer = train_pre or pre
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False, special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [],
        limit_alphabet=90 if not alphabet else 10000)
    t.train_from_iterator(text(), trainer)
    return t


def byte_level(pre, special=("<|endoftext|>",), **kw):
    t = bpe(list(special), pre=pre, **kw)
    t.decoder = decoders.ByteLevel()
    return t


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def sequence(*parts):
    return pre_tokenizers.Sequence(list(parts))


def raw_bytes(regex=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


def sentencepiece(edit):
    """SentencePiece-style BPE with byte fallback, then rewritten by edit."""
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    t = bpe(special, alphabet=False, train_pre=pre_tokenizers.Metaspace(), vocab=600,
            unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    j = json.loads(t.to_str())
    j["added_tokens"] = [a for a in j["added_tokens"] if a["id"] < 3]
    edit(j)
    return Tokenizer.from_str(json.dumps(j))


def llama2(j):
    j["pre_tokenizer"] = None
    j["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}


def mistral(j):
    j["normalizer"] = None
    j["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}


def metaspace(j):
    j["normalizer"] = None
    j["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def gemma(j):
    j["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    j["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def added(t):
    """Added tokens of every kind."""
    t.add_special_tokens([AddedToken("<|end|>", lstrip=True, rstrip=False)])
    t.add_tokens([
        AddedToken("<|wide|>", lstrip=False, rstrip=True, normalized=False),
        AddedToken("<lone>", single_word=True, normalized=True),
        AddedToken("cafe\u0301", normalized=True),
        AddedToken("<|end|>x", normalized=False),
        AddedToken("    ", normalized=False),
    ])
    return t


def unknowns(j):
    """No byte tokens: unknown characters become one unknown token."""
    j["model"]["byte_fallback"] = False
    mistral(j)


def tokenizers():
    yield "gpt2", byte_level(raw_bytes(regex=True))
    yield "prefix", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    yield "llama3", byte_level(sequence(split(LLAMA3), raw_bytes()), ignore_merges=True)
    yield "qwen2", added(byte_level(sequence(split(QWEN2), raw_bytes()), normalizer=normalizers.NFC()))
    yield "smollm", byte_level(sequence(pre_tokenizers.Digits(individual_digits=True), raw_bytes(regex=True)))
    yield "o200k", byte_level(sequence(split(O200K), raw_bytes()))
    yield "deepseek", byte_level(sequence(*map(split, DEEPSEEK), raw_bytes()))
    yield "bloom", byte_level(sequence(split(BLOOM), raw_bytes()))
    yield "falcon", byte_level(sequence(
        pre_tokenizers.Punctuation("contiguous"), raw_bytes(regex=True),
        pre_tokenizers.Digits(individual_digits=False), split("[0-9][0-9][0-9]")))
    yield "removed", byte_level(
        sequence(split(r"\p{L}+|\d+|[^\s\p{L}\p{N}]+", "removed", invert=True), raw_bytes()),
        normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]))
    yield "llama2", sentencepiece(llama2)
    yield "mistral", sentencepiece(mistral)
    yield "metaspace", sentencepiece(metaspace)
    yield "gemma", added(sentencepiece(gemma))
    yield "unknown", sentencepiece(unknowns)


def write_tokenizers():
    folder = HERE / "tokenizers"
    folder.mkdir(exist_ok=True)
    expected = {"texts": HOSTILE, "ids": {}}
    for name, t in tokenizers():
        (folder / f"{name}.json").write_text(
            json.dumps(json.loads(t.to_str()), ensure_ascii=True, separators=(",", ":")) + "\n")
        expected["ids"][name] = [t.encode(s, add_special_tokens=False).ids for s in HOSTILE]
    rows = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in expected["ids"].items())
    (HERE / "expected.json").write_text(f'{{"texts": {json.dumps(HOSTILE)},\n"ids": {{\n{rows}\n}}}}\n')


def write_data():
    folder = HERE / "data"
    folder.mkdir(exist_ok=True)
    lines = text()
    train, test = pa.table({"id": range(200), "text": lines[:200]}), pa.table({"id": range(20), "text": lines[200:220]})
    for codec in ["snappy", "gzip", "zstd", "lz4", "brotli", "none"]:
        pq.write_table(train, folder / f"text-{codec}.parquet", compression=codec, row_group_size=64)
    pq.write_table(train, folder / "text-plain-v2.parquet", use_dictionary=False, data_page_version="2.0")
    for encoding in ["DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"]:
        pq.write_table(train, folder / f"text-{encoding.split('_')[1].lower()}.parquet", use_dictionary=False,
                       column_encoding={"text": encoding, "id": "PLAIN"}, compression="zstd")
    pq.write_table(train, folder / "text-checksum.parquet", write_page_checksum=True, data_page_size=2000)
    hub = folder / "hub"
    (hub / "data").mkdir(parents=True, exist_ok=True)
    pq.write_table(train.slice(0, 100), hub / "data" / "train-00000-of-00002.parquet")
    pq.write_table(train.slice(100), hub / "data" / "train-00001-of-00002.parquet")
    pq.write_table(test, hub / "data" / "test-00000-of-00001.parquet")
    (hub / "README.md").write_text("A dataset folder as the hub holds it.\n")

    chats = [[{"role": "user", "content": s}, {"role": "assistant", "content": s.upper()}] for s in lines[:30]]
    pq.write_table(pa.table({"messages": chats}), folder / "messages.parquet")
    pq.write_table(pa.table({"prompt": lines[:30], "completion": [s.upper() for s in lines[:30]]}),
                   folder / "prompt.parquet")
    pq.write_table(pa.table({"prompt": [c[:1] for c in chats], "completion": [c[1:] for c in chats]}),
                   folder / "prompt-chat.parquet")
    pq.write_table(pa.table({"text": [lines[0], None, "", lines[1]]}), folder / "null.parquet")
    pq.write_table(pa.table({"text": pa.array(lines[:30], pa.large_string())}), folder / "large.parquet")
    pq.write_table(pa.table({"number": [1, 2, 3]}), folder / "numbers.parquet")
    pq.write_table(pa.table({"text": [1, 2, 3]}), folder / "text-int.parquet")
    (folder / "lines.json").write_text(json.dumps({
        "text": lines[:200], "test": lines[200:220], "messages": chats, "nulls": [lines[0], None, "", lines[1]]}))
    with gzip.GzipFile(folder / "lines.jsonl.gz", "wb", mtime=0) as f:
        for s in lines[:200]:
            f.write(json.dumps({"text": s}).encode() + b"\n")


if __name__ == "__main__":
    write_tokenizers()
    write_data()
