package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func testKey(i int) SealKey { return sha256.Sum256(fmt.Appendf(nil, "test key %d", i)) }

// TestStreamIsTheSpecified compares with the plainest reading of the
// specification, over many blocks.
func TestStreamIsTheSpecified(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := SealKey(rapid.SliceOfN(rapid.Byte(), Size, Size).Draw(t, "key"))
		id := rapid.String().Draw(t, "group")
		s := k.Stream(id)
		for i := range uint64(20) {
			m := hmac.New(sha256.New, k.subkey("neuroseal/v1\x00"+id))
			m.Write(binary.BigEndian.AppendUint64(nil, i))
			for block := m.Sum(nil); len(block) > 0; block = block[4:] {
				if got, want := s.Uint32(), binary.BigEndian.Uint32(block); got != want {
					t.Fatalf("block %d: %08x, want %08x", i, got, want)
				}
			}
		}
	})
}

// TestIntnRejects compares every draw with the definition on the raw words.
func TestIntnRejects(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := testKey(rapid.IntRange(0, 1000).Draw(t, "key"))
		a, b := k.Stream("g"), k.Stream("g")
		bounds := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 20), rapid.IntRange(1, 1<<32-1), rapid.Just(1<<31+1)), 1, 200).Draw(t, "bounds")
		for _, n := range bounds {
			want := uint64(0)
			for limit := (1 << 32) / uint64(n) * uint64(n); n > 1; {
				if w := uint64(b.Uint32()); w < limit {
					want = w % uint64(n)
					break
				}
			}
			if got := a.Intn(n); got != int(want) {
				t.Fatalf("Intn(%d) = %d, want %d", n, got, want)
			}
		}
		if a.Uint32() != b.Uint32() {
			t.Fatal("another number of words was consumed")
		}
	})
}

func TestIntnPanicsOutOfRange(t *testing.T) {
	for _, n := range []int{0, -1, math.MinInt, 1 << 32, math.MaxInt} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Intn(%d) did not panic", n)
				}
			}()
			testKey(0).Stream("g").Intn(n)
		}()
	}
}

// TestIntnIsUniform is a chi-squared test. The stream is fixed by its key, so
// the outcome is too.
func TestIntnIsUniform(t *testing.T) {
	const n, draws = 17, 170_000
	s := testKey(1).Stream("uniform")
	var counts [n]int
	for range draws {
		counts[s.Intn(n)]++
	}
	chi2, want := 0.0, float64(draws)/n
	for _, c := range counts {
		chi2 += (float64(c) - want) * (float64(c) - want) / want
	}
	if chi2 > 39.3 { // 16 degrees of freedom, p = 0.001
		t.Errorf("chi² = %.1f: %v", chi2, counts)
	}
}

func TestFloat64Range(t *testing.T) {
	s, sum := testKey(2).Stream("floats"), 0.0
	const n = 100_000
	for range n {
		f := s.Float64()
		if f < 0 || f >= 1 {
			t.Fatalf("%v is outside [0, 1)", f)
		}
		if scaled := f * (1 << 53); scaled != math.Trunc(scaled) {
			t.Fatalf("%v has more than 53 bits", f)
		}
		sum += f
	}
	if mean := sum / n; math.Abs(mean-0.5) > 4/math.Sqrt(12*n) {
		t.Errorf("mean %v", mean)
	}
}

func TestStreamsDiffer(t *testing.T) {
	seen := map[[2]uint32]string{}
	for i := range 3 {
		for _, id := range []string{"", "a", "b", "ab", "a\x00", "\x00a"} {
			s := testKey(i).Stream(id)
			head, name := [2]uint32{s.Uint32(), s.Uint32()}, fmt.Sprintf("key %d group %q", i, id)
			if other, ok := seen[head]; ok {
				t.Errorf("%s equals %s", name, other)
			}
			seen[head] = name
		}
	}
}

func TestStreamDoesNotAllocate(t *testing.T) {
	s := testKey(0).Stream("g")
	s.Uint32()
	if n := testing.AllocsPerRun(100, func() {
		for range 64 {
			s.Intn(13)
		}
	}); n != 0 {
		t.Errorf("%v allocations per 64 draws", n)
	}
}

func TestCheckAndMAC(t *testing.T) {
	a, b := testKey(1), testKey(2)
	if !a.VerifyCheck(a.Check()) || a.VerifyCheck(b.Check()) || a.VerifyCheck("") || a.VerifyCheck(a.Check()[:63]) {
		t.Error("key check")
	}
	msg := []byte("manifest")
	if !a.VerifyMAC(msg, a.MAC(msg)) || a.VerifyMAC(msg, b.MAC(msg)) || a.VerifyMAC([]byte("manifesto"), a.MAC(msg)) {
		t.Error("MAC")
	}
	if a.MAC([]byte(checkMessage)) == a.Check() {
		t.Error("the check is a MAC that somebody could be made to compute")
	}
}

func TestSealKeyIsNeverPrinted(t *testing.T) {
	k := testKey(3)
	secrets := []string{fmt.Sprintf("%x", k[:]), fmt.Sprintf("%X", k[:]), k.encode(), fmt.Sprintf("%d", k[:])[1:20], fmt.Sprintf("%v", k[:4])[1:10]}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "key", k)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "key", k)
	texts := []string{k.String(), fmt.Sprint(k), fmt.Sprint(&k), fmt.Sprint(struct{ K SealKey }{k}), log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%c", "%U", "%t"} {
		texts = append(texts, fmt.Sprintf(verb, k), fmt.Sprintf(verb, []SealKey{k}))
	}
	for _, text := range texts {
		for _, s := range secrets {
			if strings.Contains(text, s) {
				t.Errorf("%q contains the key", text)
			}
		}
	}
	if out, err := json.Marshal(map[string]any{"k": k}); err == nil {
		t.Errorf("json wrote %s", out)
	}
}

func TestNewSealKeyIsFresh(t *testing.T) {
	if a, b := NewSealKey(), NewSealKey(); a == b || a == (SealKey{}) {
		t.Error("two new keys are alike")
	}
}

func BenchmarkIntn(b *testing.B) {
	s := testKey(0).Stream("g")
	b.ReportAllocs()
	for b.Loop() {
		s.Intn(13)
	}
}

func BenchmarkUint32(b *testing.B) {
	s := testKey(0).Stream("g")
	for b.Loop() {
		s.Uint32()
	}
}
