package arch_test

import (
	"encoding/json"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
)

// TestPlainJSON: what Python writes becomes JSON of the same length, and what is
// JSON stays as it is.
func TestPlainJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":[0.0,Infinity]}`:         `{"a":[0.0,"Infini"]}`,
		`{"a":-Infinity,"b":NaN}`:      `{"a":"-Infini","b":"N"}`,
		`{"a":"Infinity","b":1}`:       `{"a":"Infinity","b":1}`,
		`{"a\"NaN":NaN,"\\":Infinity}`: `{"a\"NaN":"N","\\":"Infini"}`,
		`{"a":`:                        `{"a":`,
	} {
		if got := string(arch.PlainJSON([]byte(in))); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}

func FuzzPlainJSON(f *testing.F) {
	for _, s := range []string{`{"a":Infinity}`, `[-NaN]`, `"\`, `-`, `{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out := arch.PlainJSON(data)
		if len(out) != len(data) {
			t.Fatalf("%d bytes of %d", len(out), len(data))
		}
		if json.Valid(data) && string(out) != string(data) {
			t.Fatalf("%q changed", data)
		}
	})
}
