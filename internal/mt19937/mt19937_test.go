package mt19937

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

type vectors struct {
	Generators []struct {
		Seed    uint64      `json:"seed"`
		Words   []uint32    `json:"words"`
		Random  []string    `json:"random"`
		Uniform [][3]string `json:"uniform"`
		Late    string      `json:"random_after_2000"`
	} `json:"generators"`
	Legacy []struct {
		Password string   `json:"password"`
		Scale    string   `json:"scale"`
		Seed     uint64   `json:"seed"`
		Scales   []string `json:"scales"`
	} `json:"legacy"`
}

// readVectors reads what testdata/vectors.py wrote with Python's random module.
func readVectors(t *testing.T) vectors {
	t.Helper()
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Generators) == 0 || len(v.Legacy) == 0 {
		t.Fatal("no vectors")
	}
	return v
}

// pythonFloat parses what Python's float.hex() wrote.
func pythonFloat(t *testing.T, s string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestGeneratorMatchesPython(t *testing.T) {
	for _, g := range readVectors(t).Generators {
		t.Run(strconv.FormatUint(g.Seed, 10), func(t *testing.T) {
			r := New(g.Seed)
			for i, want := range g.Words {
				if got := r.Uint32(); got != want {
					t.Fatalf("word %d: %d, Python %d", i, got, want)
				}
			}
			r = New(g.Seed)
			for i, want := range g.Random {
				if got := r.Random(); got != pythonFloat(t, want) {
					t.Fatalf("random %d: %x, Python %s", i, got, want)
				}
			}
			r = New(g.Seed)
			for i, u := range g.Uniform {
				if got := r.Uniform(pythonFloat(t, u[0]), pythonFloat(t, u[1])); got != pythonFloat(t, u[2]) {
					t.Fatalf("uniform %d: %x, Python %s", i, got, u[2])
				}
			}
			r = New(g.Seed)
			for range 2000 {
				r.Random()
			}
			if got := r.Random(); got != pythonFloat(t, g.Late) {
				t.Fatalf("after 2000: %x, Python %s", got, g.Late)
			}
		})
	}
}

func TestLegacyMatchesPython(t *testing.T) {
	for _, l := range readVectors(t).Legacy {
		if got := LegacySeed(l.Password); got != l.Seed {
			t.Errorf("seed of %q: %d, Python %d", l.Password, got, l.Seed)
		}
		got := LegacyScales(l.Password, pythonFloat(t, l.Scale), len(l.Scales))
		for i, want := range l.Scales {
			if got[i] != pythonFloat(t, want) {
				t.Fatalf("password %q, scale %s, layer %d: %x, Python %s", l.Password, l.Scale, i, got[i], want)
			}
		}
	}
}

func TestLegacyScalesOfNoLayers(t *testing.T) {
	if got := LegacyScales("p", 100, 0); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}
