package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// file makes a file from JSON text and n bytes of data.
func file(json string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(json)))
	b = append(b, json...)
	return append(b, make([]byte, n)...)
}

func parse(b []byte) (*Header, error) { return Parse(bytes.NewReader(b), int64(len(b))) }

func TestParseAccepts(t *testing.T) {
	tests := []struct {
		name, json string
		data       int
		tensors    int
	}{
		{"no tensor", `{}`, 0, 0},
		{"padded", `{}      `, 0, 0},
		{"metadata only", `{"__metadata__":{"format":"pt"}}`, 0, 0},
		{"empty metadata", `{"__metadata__":{}}`, 0, 0},
		{"scalar", `{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 4, 1},
		{"zero-size", `{"a":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}}`, 0, 1},
		{"zero-size at start, inside and end", `{"c":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"z":{"dtype":"U8","shape":[0],"data_offsets":[3,3]},` +
			`"y":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}`, 3, 5},
		{"white space", " \n"[2:] + `{ "a" : { "shape" : [ 2 , 1 ] , "dtype" : "F16" , "data_offsets" : [ 0 , 4 ] } }` + "  \n", 4, 1},
		{"sub-byte", `{"a":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]},"b":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[3,6]}}`, 6, 2},
		{"escapes", `{"\u0041\ud83d\ude00\n\/":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1, 1},
		{"huge zero", `{"a":{"dtype":"F32","shape":[0,4611686018427387904],"data_offsets":[0,0]}}`, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := parse(file(tt.json, tt.data))
			if err != nil {
				t.Fatal(err)
			}
			if len(h.Tensors) != tt.tensors {
				t.Errorf("%d tensors, want %d", len(h.Tensors), tt.tensors)
			}
			if string(h.Raw[8:]) != tt.json || h.DataEnd() != int64(8+len(tt.json)+tt.data) {
				t.Errorf("raw %q, end %d", h.Raw, h.DataEnd())
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	tensor := func(fields string) string { return `{"a":{` + fields + `}}` }
	good := `"dtype":"U8","shape":[4],"data_offsets":[0,4]`
	tests := []struct {
		name, json string
		data       int
		want       string
		kind       fault.Kind
	}{
		{"leading space", ` {}`, 0, "begin with '{'", fault.Mismatch},
		{"array", `[]`, 0, "begin with '{'", fault.Mismatch},
		{"empty", ``, 0, "begin with '{'", fault.Mismatch},
		{"cut", `{"a":{"dtype":"U8"`, 0, "JSON ends", fault.Mismatch},
		{"after the end", `{}x`, 0, "after the end", fault.Mismatch},
		{"second object", `{}{}`, 0, "after the end", fault.Mismatch},
		{"nul padding", "{}\x00", 0, "after the end", fault.Mismatch},
		{"trailing comma", tensor(good + ","), 4, "is due", fault.Mismatch},
		{"duplicate tensor", `{"a":{` + good + `},"a":{` + good + `}}`, 4, `duplicate key "a"`, fault.Mismatch},
		{"duplicate by escape", `{"a":{` + good + `},"\u0061":{` + good + `}}`, 4, `duplicate key "a"`, fault.Mismatch},
		{"duplicate field", tensor(good + `,"dtype":"U8"`), 4, `duplicate key "dtype"`, fault.Mismatch},
		{"duplicate metadata", `{"__metadata__":{},"__metadata__":{}}`, 0, "duplicate key", fault.Mismatch},
		{"duplicate in metadata", `{"__metadata__":{"a":"","a":""}}`, 0, `duplicate key "a"`, fault.Mismatch},
		{"metadata number", `{"__metadata__":{"a":1}}`, 0, "is due", fault.Mismatch},
		{"metadata nested", `{"__metadata__":{"a":{}}}`, 0, "is due", fault.Mismatch},
		{"metadata null", `{"__metadata__":null}`, 0, "is due", fault.Mismatch},
		{"unknown field", tensor(good + `,"stride":[1]`), 4, `unknown field "stride"`, fault.Mismatch},
		{"unknown type", tensor(`"dtype":"F128","shape":[4],"data_offsets":[0,4]`), 4, `unknown element type "F128"`, fault.Unsupported},
		{"empty type", tensor(`"dtype":"","shape":[4],"data_offsets":[0,4]`), 4, `unknown element type ""`, fault.Unsupported},
		{"no shape", tensor(`"dtype":"U8","data_offsets":[0,4]`), 4, "not all there", fault.Mismatch},
		{"negative", tensor(`"dtype":"U8","shape":[-4],"data_offsets":[0,4]`), 4, "not negative", fault.Mismatch},
		{"negative offset", tensor(`"dtype":"U8","shape":[4],"data_offsets":[-1,3]`), 4, "not negative", fault.Mismatch},
		{"float", tensor(`"dtype":"U8","shape":[4.0],"data_offsets":[0,4]`), 4, "not whole", fault.Mismatch},
		{"exponent", tensor(`"dtype":"U8","shape":[4],"data_offsets":[0,4e0]`), 4, "not whole", fault.Mismatch},
		{"leading zero", tensor(`"dtype":"U8","shape":[04],"data_offsets":[0,4]`), 4, "leading zero", fault.Mismatch},
		{"huge offset", tensor(`"dtype":"U8","shape":[4],"data_offsets":[0,9223372036854775808]`), 4, "2^63-1", fault.Mismatch},
		{"one offset", tensor(`"dtype":"U8","shape":[4],"data_offsets":[0]`), 4, "has 1 numbers", fault.Mismatch},
		{"three offsets", tensor(`"dtype":"U8","shape":[4],"data_offsets":[0,4,8]`), 4, "more than two", fault.Mismatch},
		{"reversed", tensor(`"dtype":"U8","shape":[4],"data_offsets":[4,0]`), 4, "before they begin", fault.Mismatch},
		{"lying size", tensor(`"dtype":"F16","shape":[4],"data_offsets":[0,4]`), 4, `tensor "a": F16 of shape [4] takes 8 bytes`, fault.Mismatch},
		{"overflow", tensor(`"dtype":"F32","shape":[4611686018427387904,16],"data_offsets":[0,4]`), 4, "overflows", fault.Mismatch},
		{"half bytes", tensor(`"dtype":"F4","shape":[3],"data_offsets":[0,1]`), 1, "not whole bytes", fault.Mismatch},
		{"hole at start", tensor(`"dtype":"U8","shape":[4],"data_offsets":[1,5]`), 5, "belong to no tensor", fault.Mismatch},
		{"hole", `{"a":{` + good + `},"b":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}}`, 6, `data bytes 4 to 5, before tensor "b"`, fault.Mismatch},
		{"overlap", `{"a":{` + good + `},"b":{"dtype":"U8","shape":[3],"data_offsets":[3,6]}}`, 6, `inside tensor "a"`, fault.Mismatch},
		{"zero-size within", `{"a":{` + good + `},"b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}}`, 4, `inside tensor "a"`, fault.Mismatch},
		{"truncated", tensor(good), 3, `inside tensor "a"; 1 bytes are missing`, fault.Mismatch},
		{"trailing data", tensor(good), 5, "1 bytes after the last tensor", fault.Mismatch},
		{"control character", "{\"a\n\":{" + good + "}}", 4, "control character", fault.Mismatch},
		{"bad escape", `{"\x":{` + good + `}}`, 4, "unknown escape", fault.Mismatch},
		{"lone surrogate", `{"\ud800":{` + good + `}}`, 4, "surrogate", fault.Mismatch},
		{"bad UTF-8", "{\"\xff\":{" + good + "}}", 4, "UTF-8", fault.Mismatch},
		{"deep", strings.Repeat(`{"a":`, 1000), 0, "unknown field", fault.Mismatch},
		{"tensor is number", `{"a":1}`, 0, "is due", fault.Mismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(file(tt.json, tt.data))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), tt.want) || fault.KindOf(err) != tt.kind {
				t.Errorf("kind %d: %v\nwant kind %d: %q", fault.KindOf(err), err, tt.kind, tt.want)
			}
		})
	}
}

func TestParseRefusesLength(t *testing.T) {
	length := func(n uint64) []byte { return append(binary.LittleEndian.AppendUint64(nil, n), "{}"...) }
	for name, b := range map[string][]byte{
		"empty": nil, "short": {1, 2}, "over the file": length(3), "over 100 MB": length(MaxHeader + 1), "over 63 bits": length(1 << 63),
	} {
		if _, err := parse(b); fault.KindOf(err) != fault.Mismatch || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The claimed size is larger than what the reader holds.
	if _, err := Parse(bytes.NewReader(length(50)), 1000); fault.KindOf(err) != fault.Mismatch {
		t.Error(err)
	}
}

type brokenReader struct{}

var errBroken = errors.New("broken")

func (brokenReader) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func TestParsePassesReadErrors(t *testing.T) {
	if _, err := Parse(brokenReader{}, 100); !errors.Is(err, errBroken) || fault.KindOf(err) != fault.General {
		t.Error(err)
	}
}

func TestOrder(t *testing.T) {
	h, err := parse(file(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},"a":{"dtype":"U16","shape":[1],"data_offsets":[0,2]}}`, 3))
	if err != nil {
		t.Fatal(err)
	}
	if h.Tensors[0].Name != "b" || h.Order[0] != 1 || h.Order[1] != 0 {
		t.Errorf("%v, order %v", h.Tensors, h.Order)
	}
	if h.Tensors[1].DType != dtype.U16 || h.Tensors[1].Size() != 2 || h.Tensors[1].Elements() != 1 {
		t.Errorf("%+v", h.Tensors[1])
	}
}

func TestParseFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if _, err := ParseFile(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	os.WriteFile(path, file(`{}`, 1), 0o600)
	if _, err := ParseFile(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error does not name the file: %v", err)
	}
	os.WriteFile(path, file(`{}`, 0), 0o600)
	if _, err := ParseFile(path); err != nil {
		t.Error(err)
	}
}

// countingReader fails the test when more is read than the header.
type countingReader struct {
	io.ReaderAt
	t   *testing.T
	max int64
}

func (c countingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > c.max {
		c.t.Errorf("reads bytes %d to %d of a header of %d", off, off+int64(len(p)), c.max)
	}
	return c.ReaderAt.ReadAt(p, off)
}

func TestParseReadsHeaderOnly(t *testing.T) {
	json := `{"a":{"dtype":"U8","shape":[1000],"data_offsets":[0,1000]}}`
	b := file(json, 1000)
	if _, err := Parse(countingReader{bytes.NewReader(b), t, int64(8 + len(json))}, int64(len(b))); err != nil {
		t.Error(err)
	}
}
