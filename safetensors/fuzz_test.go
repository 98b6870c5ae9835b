package safetensors

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"slices"
	"testing"
)

// FuzzParse: whatever parses is sound, and laying the same tensors out anew
// gives a header that parses to the same tensors.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{}`), uint16(0))
	f.Add([]byte(`{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  `), uint16(8))
	f.Add([]byte(`{"b":{"dtype":"F4","shape":[2],"data_offsets":[0,1]},"a\u00e9\ud83d\ude00":{"dtype":"U8","shape":[],"data_offsets":[1,2]}}`), uint16(2))
	f.Add([]byte(`{"z":{"dtype":"I64","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`), uint16(0))
	f.Add([]byte(`{"z":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"y":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}`), uint16(6))
	f.Fuzz(func(t *testing.T, json []byte, n uint16) {
		b := binary.LittleEndian.AppendUint64(nil, uint64(len(json)))
		b = append(append(b, json...), make([]byte, n)...)
		h, err := Parse(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if h.DataEnd() != int64(len(b)) || !bytes.Equal(h.Raw, b[:h.DataStart]) {
			t.Fatalf("data end %d of %d", h.DataEnd(), len(b))
		}
		var total int64
		for _, x := range h.Tensors {
			total += x.Size()
		}
		if total != int64(n) {
			t.Fatalf("tensors hold %d bytes of %d", total, n)
		}
		again, err := NewHeader(h.Metadata, h.Tensors)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := Parse(bytes.NewReader(append(slices.Clone(again.Raw), make([]byte, n)...)), again.DataStart+int64(n))
		if err != nil {
			t.Fatalf("%v\n%q", err, again.Raw)
		}
		if !reflect.DeepEqual(parsed.Metadata, h.Metadata) || !reflect.DeepEqual(descriptions(parsed), descriptions(h)) {
			t.Fatalf("%q\nbecame\n%q", h.Raw, again.Raw)
		}
	})
}

// descriptions returns the tensors by name, without positions.
func descriptions(h *Header) map[string]TensorInfo {
	m := make(map[string]TensorInfo)
	for _, t := range h.Tensors {
		t.Begin, t.End = 0, 0
		m[t.Name] = t
	}
	return m
}

// FuzzParseFile feeds whole files, length field included.
func FuzzParseFile(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := Parse(bytes.NewReader(b), int64(len(b))); err == nil && len(h.Raw) > len(b) {
			t.Fatal("header is longer than the file")
		}
	})
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1.5e9,"x":[null,true,{"a":"b"}]},"weight_map":{"a":"x.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"x","a":"y"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := ParseIndex(b)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, e := range entries {
			if seen[e.Tensor] {
				t.Fatalf("tensor %q twice", e.Tensor)
			}
			seen[e.Tensor] = true
		}
	})
}
