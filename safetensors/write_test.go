package safetensors

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestWriteLayout(t *testing.T) {
	var b bytes.Buffer
	err := Write(&b, map[string]string{"format": "pt", "a": "\"\n\x01é</"}, []Tensor{
		{TensorInfo{Name: "z", DType: dtype.U8, Shape: []int{3}}, []byte{1, 2, 3}},
		{TensorInfo{Name: "b", DType: dtype.F32}, []byte{4, 5, 6, 7}},
		{TensorInfo{Name: "a", DType: dtype.F32, Shape: []int{0, 2}}, nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"__metadata__":{"a":"\"\n\u0001é</","format":"pt"},` +
		`"a":{"dtype":"F32","shape":[0,2],"data_offsets":[0,0]},` +
		`"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},` +
		`"z":{"dtype":"U8","shape":[3],"data_offsets":[4,7]}}`
	h, err := parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimRight(string(h.Raw[8:]), " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if h.DataStart%8 != 0 || !bytes.HasSuffix(b.Bytes(), []byte{4, 5, 6, 7, 1, 2, 3}) {
		t.Errorf("data start %d, data % x", h.DataStart, b.Bytes()[h.DataStart:])
	}
}

func TestWriteRefuses(t *testing.T) {
	one := func(name string, d dtype.DType, data int, shape ...int) Tensor {
		return Tensor{TensorInfo{Name: name, DType: d, Shape: shape}, make([]byte, data)}
	}
	for name, ts := range map[string][]Tensor{
		"duplicate":    {one("a", dtype.U8, 1, 1), one("a", dtype.U8, 1, 1)},
		"reserved":     {one("__metadata__", dtype.U8, 1, 1)},
		"bad name":     {one("\xff", dtype.U8, 1, 1)},
		"short data":   {one("a", dtype.F32, 1, 1)},
		"negative":     {one("a", dtype.F32, 4, -1, -1)},
		"half bytes":   {one("a", dtype.F4, 1, 1)},
		"no type":      {one("a", dtype.Invalid, 1, 1)},
		"sum overflow": {one("a", dtype.U8, 0, 1<<59), one("b", dtype.U8, 0, 1<<59, 15), one("c", dtype.U8, 0, 1<<59, 15)},
	} {
		if err := Write(&bytes.Buffer{}, nil, ts); fault.KindOf(err) < fault.Mismatch {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWriteParseRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 8).Draw(t, "tensors")
		var ts []Tensor
		for i := range n {
			info := TensorInfo{
				Name:  rapid.StringN(0, 6, -1).Draw(t, "name") + fmt.Sprint(i),
				DType: dtype.DType(rapid.IntRange(1, int(dtype.C64)).Draw(t, "type")),
				Shape: rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3).Draw(t, "shape"),
			}
			if info.DType.Bits()%8 != 0 {
				info.Shape = append(info.Shape, 4)
			}
			size, err := info.bytes()
			if err != nil {
				t.Fatal(err)
			}
			ts = append(ts, Tensor{info, bytes.Repeat([]byte{byte(i + 1)}, int(size))})
		}
		var meta map[string]string
		if rapid.Bool().Draw(t, "with metadata") {
			meta = rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "metadata")
		}
		var b bytes.Buffer
		if err := Write(&b, meta, ts); err != nil {
			t.Fatal(err)
		}
		h, err := parse(b.Bytes())
		if err != nil {
			t.Fatalf("%v\n%q", err, b.Bytes())
		}
		if !reflect.DeepEqual(h.Metadata, meta) || len(h.Tensors) != n {
			t.Fatalf("metadata %v, want %v; %d tensors", h.Metadata, meta, len(h.Tensors))
		}
		byName := map[string]Tensor{}
		for _, x := range ts {
			byName[x.Name] = x
		}
		for _, got := range h.Tensors {
			want := byName[got.Name]
			data := b.Bytes()[h.DataStart+got.Begin : h.DataStart+got.End]
			if got.DType != want.DType || fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) || !bytes.Equal(data, want.Data) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
		}
	})
}
