package sha256x2

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var _ hash.Hash = (*Hash)(nil)

// portable runs f with the kernels and without.
func portable(t *testing.T, f func(t *testing.T)) {
	if !haveAsm {
		t.Log("this processor has no kernels")
	} else {
		t.Run("kernels", f)
	}
	t.Run("portable", func(t *testing.T) {
		defer func(h bool) { haveAsm = h }(haveAsm)
		haveAsm = false
		f(t)
	})
}

// vectors are from FIPS 180-4's examples and NIST's SHAVS.
var vectors = []struct{ message, sum string }{
	{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{"\xd3", "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1"},
	{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
		"cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
	{strings.Repeat("a", 1e6), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
}

func TestVectors(t *testing.T) {
	portable(t, func(t *testing.T) {
		for _, v := range vectors {
			for _, w := range vectors {
				a, b := New(), New()
				Write2(a, []byte(v.message), b, []byte(w.message))
				if got := hex.EncodeToString(a.Sum(nil)); got != v.sum {
					t.Errorf("first of %d and %d bytes: %s, want %s", len(v.message), len(w.message), got, v.sum)
				}
				if got := hex.EncodeToString(b.Sum(nil)); got != w.sum {
					t.Errorf("second of %d and %d bytes: %s, want %s", len(v.message), len(w.message), got, w.sum)
				}
			}
		}
	})
}

// TestLengths has every length around the edges of two blocks, as a whole and
// written in two pieces.
func TestLengths(t *testing.T) {
	data := make([]byte, 200)
	for i := range data {
		data[i] = byte(i * 7)
	}
	portable(t, func(t *testing.T) {
		for n := range data {
			want := sha256.Sum256(data[:n])
			for cut := range n + 1 {
				a, b := New(), New()
				Write2(a, data[:cut], b, data[:n])
				Write2(a, data[cut:n], b, nil)
				if got := a.Sum(nil); !bytes.Equal(got, want[:]) {
					t.Fatalf("%d bytes, cut at %d: %x, want %x", n, cut, got, want)
				}
				if got := b.Sum(nil); !bytes.Equal(got, want[:]) {
					t.Fatalf("%d bytes: %x, want %x", n, got, want)
				}
			}
		}
	})
}

// TestAgainstStandard drives two hashes with any sequence of calls.
func TestAgainstStandard(t *testing.T) {
	data := make([]byte, 300<<10)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(data)
	portable(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			own := [2]*Hash{New(), New()}
			std := [2]hash.Hash{sha256.New(), sha256.New()}
			piece := rapid.Custom(func(t *rapid.T) []byte {
				n := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0, 150<<10)).Draw(t, "n")
				off := rapid.IntRange(0, len(data)-n).Draw(t, "off")
				return data[off : off+n]
			})
			for range rapid.IntRange(0, 6).Draw(t, "calls") {
				switch i := rapid.IntRange(0, 4).Draw(t, "call"); i {
				case 0, 1:
					p := piece.Draw(t, "p")
					own[i].Write(p)
					std[i].Write(p)
				case 2, 3:
					p, q := piece.Draw(t, "p"), piece.Draw(t, "q")
					Write2(own[i&1], p, own[i&1^1], q)
					std[i&1].Write(p)
					std[i&1^1].Write(q)
				default:
					own[0].Reset()
					std[0].Reset()
				}
				for i := range own {
					if got, want := own[i].Sum([]byte("x")), std[i].Sum([]byte("x")); !bytes.Equal(got, want) {
						t.Fatalf("stream %d: %x, want %x", i, got, want)
					}
				}
			}
		})
	})
}

func FuzzWrite2(f *testing.F) {
	f.Add([]byte("abc"), []byte("defg"), uint16(1), uint16(2))
	f.Add(make([]byte, 1000), make([]byte, 129), uint16(63), uint16(64))
	f.Fuzz(func(t *testing.T, p, q []byte, i, j uint16) {
		a, b := New(), New()
		m, n := min(int(i), len(p)), min(int(j), len(q))
		Write2(a, p[:m], b, q[:n])
		Write2(b, q[n:], a, p[m:])
		if want := sha256.Sum256(p); !bytes.Equal(a.Sum(nil), want[:]) {
			t.Errorf("first: %x, want %x", a.Sum(nil), want)
		}
		if want := sha256.Sum256(q); !bytes.Equal(b.Sum(nil), want[:]) {
			t.Errorf("second: %x, want %x", b.Sum(nil), want)
		}
	})
}

// TestOneHash: a hash cannot stand on both sides.
func TestOneHash(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("accepted")
		}
	}()
	h := New()
	Write2(h, []byte("a"), h, []byte("b"))
}

// BenchmarkWrite2 hashes two streams at once, one after the other, and with
// crypto/sha256.
func BenchmarkWrite2(b *testing.B) {
	p, q := make([]byte, 256<<10), make([]byte, 256<<10)
	b.Run("two", func(b *testing.B) {
		x, y := New(), New()
		b.SetBytes(int64(len(p) + len(q)))
		for b.Loop() {
			Write2(x, p, y, q)
		}
	})
	for name, h := range map[string]hash.Hash{"one": New(), "crypto": sha256.New()} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(p) + len(q)))
			for b.Loop() {
				h.Write(p)
				h.Write(q)
			}
		})
	}
}
