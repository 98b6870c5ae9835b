package safetensors

import (
	"reflect"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestParseIndex(t *testing.T) {
	got, err := ParseIndex([]byte(`{"metadata": {"total_size": 1e3, "n": [-1, 2.5, null, true, "x", {}]},
		"weight_map": {"b": "2.safetensors", "a": "sub/1.safetensors"}}` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []IndexEntry{{"b", "2.safetensors"}, {"a", "sub/1.safetensors"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestParseIndexRefuses(t *testing.T) {
	for json, want := range map[string]string{
		`{}`:                                   "without weight_map",
		`[]`:                                   "is due",
		`{"weight_map":{"a":"x","a":"x"}}`:     `duplicate tensor "a"`,
		`{"weight_map":{},"weight_map":{}}`:    "duplicate key",
		`{"weight_map":{"a":1}}`:               "is due",
		`{"weight_map":{}}x`:                   "after the end",
		`{"metadata":NaN,"weight_map":{}}`:     "no JSON value",
		`{"metadata":1.2.3,"weight_map":{}}`:   "no JSON value",
		strings.Repeat(`{"a":`, 100):           "nested more than",
		`{"a":` + strings.Repeat(`[`, 100_000): "nested more than",
	} {
		_, err := ParseIndex([]byte(json))
		if fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v, want %q", json, err, want)
		}
	}
}
