#!/usr/bin/env python3
"""An independent implementation of spec/derivation.md. Standard library only.

    python3 derivation.py [derivation.json [seal.json]]

recomputes every test vector and exits with status 1 at the first that differs.
"""

import hashlib
import hmac
import json
import os
import sys


def hkdf(ikm, info, length=32):
    """HKDF-SHA256 of RFC 5869 with an empty salt, for at most one block."""
    assert length <= 32
    prk = hmac.new(bytes(32), ikm, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()[:length]


def group_key(seal_key, group_id):
    return hkdf(seal_key, b"neuroseal/v1" + b"\x00" + group_id.encode("utf-8"))


def key_check(seal_key):
    key = hkdf(seal_key, b"neuroseal/check/v1")
    return hmac.new(key, b"neuroseal key check", hashlib.sha256).hexdigest()


def mac(seal_key, message):
    key = hkdf(seal_key, b"neuroseal/mac/v1")
    return hmac.new(key, message, hashlib.sha256).hexdigest()


class Stream:
    def __init__(self, seal_key, group_id):
        self.key = group_key(seal_key, group_id)
        self.block = 0
        self.rest = b""

    def read(self, n):
        while len(self.rest) < n:
            index = self.block.to_bytes(8, "big")
            self.rest += hmac.new(self.key, index, hashlib.sha256).digest()
            self.block += 1
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def uint32(self):
        return int.from_bytes(self.read(4), "big")

    def intn(self, n):
        if n == 1:
            return 0
        limit = 2**32 // n * n
        while True:
            word = self.uint32()
            if word < limit:
                return word % n

    def float64(self):
        a = self.uint32() >> 5
        b = self.uint32() >> 6
        return (a * 67108864 + b) / 9007199254740992


def stream_id(group):
    """The group's id, after draws that moved nothing with their number before it."""
    return f"draw\0{group['draw']}\0{group['id']}" if group.get("draw") else group["id"]


def exponents(seal_key, group):
    s = Stream(seal_key, stream_id(group))
    offset = group["offsets"][s.intn(len(group["offsets"]))]
    width = group["hi"] - group["lo"] + 1
    out = [offset + group["lo"] + s.intn(width) for _ in range(group["classes"])]
    o = group.get("outliers")
    if o:
        at = list(range(group["classes"]))
        for i in range(2 * o["count"]):
            j = i + s.intn(len(at) - i)
            at[i], at[j] = at[j], at[i]
            out[at[i]] = o["low"] if i < o["count"] else o["high"]
    return out


def negative(seal_key, group):
    s = Stream(seal_key, "signs\0" + stream_id(group))
    return [c for c in range(group["classes"]) if s.intn(2) == 1]


def order(seal_key, permutation):
    s = Stream(seal_key, "permute\0" + permutation["id"])
    out = list(range(permutation["count"]))
    for i in range(len(out)):
        j = i + s.intn(len(out) - i)
        out[i], out[j] = out[j], out[i]
    return out


def dynamic_factor(seal_key, scale, layer):
    return scale * (0.1 + 0.9 * Stream(seal_key, f"dynamic:{layer}").float64())


CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32(prefix, data):
    """Bech32 of BIP 173."""

    def polymod(values):
        chk = 1
        for v in values:
            top = chk >> 25
            chk = (chk & 0x1FFFFFF) << 5 ^ v
            for i, g in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
                if top >> i & 1:
                    chk ^= g
        return chk

    bits = "".join(f"{b:08b}" for b in data)
    bits += "0" * (-len(bits) % 5)
    words = [int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    chk = polymod(expanded + words + [0] * 6) ^ 1
    words += [chk >> 5 * (5 - i) & 31 for i in range(6)]
    return prefix + "1" + "".join(CHARSET[w] for w in words)


checked = 0


def expect(where, got, want):
    global checked
    if got != want or type(got) is not type(want):
        sys.exit(f"{where}: got {got!r}, the vector says {want!r}")
    checked += 1


def verify_group(where, key, g):
    gid = g["id"]
    expect(f"{where} group_key", group_key(key, gid).hex(), g["group_key"])
    expect(f"{where} stream", Stream(key, gid).read(80).hex(), g["stream"])
    s = Stream(key, gid)
    s.read(4 * 10000)
    expect(f"{where} word_10000", s.uint32(), g["word_10000"])
    s = Stream(key, gid)
    for i, want in enumerate(g["floats"]):
        expect(f"{where} float {i}", s.float64(), float(want))
    for v in g["intn"]:
        s = Stream(key, gid)
        expect(f"{where} intn({v['n']})", [s.intn(v["n"]) for _ in v["draws"]], v["draws"])
        expect(f"{where} intn({v['n']}) next", s.uint32(), v["next_word"])
    s, m = Stream(key, gid), g["mixed"]
    expect(f"{where} mixed word", s.uint32(), m["word"])
    expect(f"{where} mixed below 1", s.intn(1), m["below_1"])
    expect(f"{where} mixed below 3", s.intn(3), m["below_3"])
    expect(f"{where} mixed float", s.float64(), float(m["float"]))
    expect(f"{where} mixed below 1000", s.intn(1000), m["below_1000"])
    expect(f"{where} mixed last", s.uint32(), m["last_word"])


def verify(vectors):
    for n, k in enumerate(vectors["keys"]):
        key = bytes.fromhex(k["seal_key"])
        expect(f"key {n} line", bech32("neuroseal-secret-key-", key).upper(), k["key_line"])
        expect(f"key {n} check", key_check(key), k["check"])
        for i, m in enumerate(k["macs"]):
            expect(f"key {n} mac {i}", mac(key, bytes.fromhex(m["message"])), m["mac"])
        for g in k["groups"]:
            verify_group(f"key {n} group {g['id']!r}", key, g)


def verify_seal(vectors):
    for n, v in enumerate(vectors["seals"]):
        key = bytes.fromhex(v["seal_key"])
        for g in v["groups"]:
            expect(f"seal {n} group {g['id']!r}", exponents(key, g), g["exponents"])
            if "negative" in g:
                expect(f"seal {n} signs of {g['id']!r}", negative(key, g), g["negative"])
        for p in v["permute"]:
            expect(f"seal {n} order of {p['id']!r}", order(key, p), p["order"])
        for d in v["dynamic"]:
            expect(f"seal {n} layer {d['layer']}", dynamic_factor(key, float(d["scale"]), d["layer"]), float(d["factor"]))


if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    path = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "derivation.json")
    with open(path, encoding="utf-8") as f:
        verify(json.load(f))
    path = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "seal.json")
    with open(path, encoding="utf-8") as f:
        verify_seal(json.load(f))
    if not checked:
        sys.exit("no vectors")
    print(f"{checked} values agree")
