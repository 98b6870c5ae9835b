package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"testing"
)

var update = flag.Bool("update", false, "rewrite ../testkit/derivation.json")

const (
	vectorFile = "../testkit/derivation.json"
	vectorTool = "../testkit/derivation.py"
)

// The published test vectors of spec/derivation.md.
type (
	vectorSet struct {
		Spec string      `json:"spec"`
		Keys []keyVector `json:"keys"`
	}
	keyVector struct {
		SealKey string        `json:"seal_key"` // hex
		KeyLine string        `json:"key_line"` // as in a key file
		Check   string        `json:"check"`
		MACs    []macVector   `json:"macs"`
		Groups  []groupVector `json:"groups"`
	}
	macVector struct {
		Message string `json:"message"` // hex
		MAC     string `json:"mac"`
	}
	groupVector struct {
		ID        string       `json:"id"`
		GroupKey  string       `json:"group_key"` // hex
		Stream    string       `json:"stream"`    // hex, the first 80 bytes
		Word10000 uint32       `json:"word_10000"`
		Floats    []float64    `json:"floats"` // the first draws of a fresh stream
		Intn      []intnVector `json:"intn"`
		Mixed     mixedVector  `json:"mixed"`
	}
	// intnVector holds the first draws below n of a fresh stream, and the word
	// that follows them, which shows how many words they took.
	intnVector struct {
		N     int    `json:"n"`
		Draws []int  `json:"draws"`
		Next  uint32 `json:"next_word"`
	}
	// mixedVector draws, in this order, from one stream: a word, below 1, below
	// 3, a float, below 1000, a word.
	mixedVector struct {
		Word  uint32  `json:"word"`
		One   int     `json:"below_1"`
		Three int     `json:"below_3"`
		Float float64 `json:"float"`
		Kilo  int     `json:"below_1000"`
		Last  uint32  `json:"last_word"`
	}
)

// vectorKeys are the keys of the vectors: all zero, counting, all ones, and one
// that looks random.
func vectorKeys() []SealKey {
	var zero, counting, ones SealKey
	for i := range counting {
		counting[i], ones[i] = byte(i), 0xff
	}
	return []SealKey{zero, counting, ones, sha256.Sum256([]byte("neuroseal 1"))}
}

var (
	vectorGroups = []string{"", "ffn", "layers.0/ffn", "layers.31/ffn", "residual", "größe/层", "a\x00b"}
	// 2³¹+1 rejects almost every other word, 2³²-1 only the very last one.
	vectorBounds = []int{1, 2, 3, 13, 17, 101, 256, 65537, 1 << 31, 1<<31 + 1, 1<<32 - 1}
	vectorMACs   = [][]byte{nil, []byte("message"), bytes.Repeat([]byte{0x00, 0xff}, 100)}
)

func makeVectors() vectorSet {
	set := vectorSet{Spec: "spec/derivation.md"}
	for _, k := range vectorKeys() {
		v := keyVector{SealKey: hex.EncodeToString(k[:]), KeyLine: k.encode(), Check: k.Check()}
		for _, m := range vectorMACs {
			v.MACs = append(v.MACs, macVector{Message: hex.EncodeToString(m), MAC: k.MAC(m)})
		}
		for _, id := range vectorGroups {
			v.Groups = append(v.Groups, makeGroupVector(k, id))
		}
		set.Keys = append(set.Keys, v)
	}
	return set
}

func makeGroupVector(k SealKey, id string) groupVector {
	g := groupVector{ID: id, GroupKey: hex.EncodeToString(k.subkey(labelGroup + "\x00" + id))}
	s := k.Stream(id)
	var head []byte
	for range 20 {
		w := s.Uint32()
		head = append(head, byte(w>>24), byte(w>>16), byte(w>>8), byte(w))
	}
	g.Stream = hex.EncodeToString(head)
	s = k.Stream(id)
	for range 10000 {
		s.Uint32()
	}
	g.Word10000 = s.Uint32()
	s = k.Stream(id)
	for range 8 {
		g.Floats = append(g.Floats, s.Float64())
	}
	for _, n := range vectorBounds {
		s, v := k.Stream(id), intnVector{N: n}
		for range 6 {
			v.Draws = append(v.Draws, s.Intn(n))
		}
		v.Next = s.Uint32()
		g.Intn = append(g.Intn, v)
	}
	s = k.Stream(id)
	g.Mixed = mixedVector{Word: s.Uint32(), One: s.Intn(1), Three: s.Intn(3), Float: s.Float64(), Kilo: s.Intn(1000), Last: s.Uint32()}
	return g
}

func TestVectors(t *testing.T) {
	got, err := json.MarshalIndent(makeVectors(), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile(vectorFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(vectorFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the derivation no longer gives the published vectors in %s: sealed models could not be unlocked", vectorFile)
	}
}

// TestVectorsByPython lets an implementation written from the specification
// alone, in another language, recompute every vector.
func TestVectorsByPython(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	out, err := exec.Command(python, vectorTool, vectorFile).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// TestPythonNoticesWrongVectors proves that the check above can fail.
func TestPythonNoticesWrongVectors(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	for name, spoil := range map[string]func(*vectorSet){
		"check":     func(v *vectorSet) { v.Keys[1].Check = v.Keys[0].Check },
		"mac":       func(v *vectorSet) { v.Keys[1].MACs[1].MAC = v.Keys[0].MACs[1].MAC },
		"stream":    func(v *vectorSet) { v.Keys[2].Groups[3].Stream = v.Keys[2].Groups[2].Stream },
		"draw":      func(v *vectorSet) { v.Keys[0].Groups[0].Intn[4].Draws[5] ^= 1 },
		"float":     func(v *vectorSet) { v.Keys[0].Groups[0].Floats[3] /= 1 + 1e-15 },
		"last word": func(v *vectorSet) { v.Keys[3].Groups[6].Mixed.Last++ },
		"key line":  func(v *vectorSet) { v.Keys[3].KeyLine = v.Keys[2].KeyLine },
	} {
		t.Run(name, func(t *testing.T) {
			set := makeVectors()
			spoil(&set)
			data, err := json.Marshal(set)
			if err != nil {
				t.Fatal(err)
			}
			path := t.TempDir() + "/vectors.json"
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(python, vectorTool, path).CombinedOutput(); err == nil {
				t.Errorf("accepted wrong vectors:\n%s", out)
			}
		})
	}
}
