package parquet

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

const data = "../testdata/data"

func load(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func open(b []byte) (*File, error) { return Open(bytes.NewReader(b), int64(len(b))) }

// read returns all values of the column with that path, "∅" for a null and "[]"
// for an empty list, "|" in front of what begins a row of a list.
func read(f *File, path string) ([]string, error) {
	i := slices.IndexFunc(f.Columns(), func(c Column) bool { return strings.Join(c.Path, ".") == path })
	if i < 0 {
		return nil, errors.New("no column " + path)
	}
	var out []string
	for g := range f.Groups() {
		r, err := f.Values(g, i)
		if err != nil {
			return nil, err
		}
		for {
			v, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, err
			}
			s := string(v.Data)
			switch {
			case v.Empty:
				s = "[]"
			case v.Null:
				s = "∅"
			}
			if v.First && f.Columns()[i].Levels > 0 {
				s = "|" + s
			}
			out = append(out, s)
		}
	}
	return out, nil
}

type linesFile struct {
	Text, Test []string
	Nulls      []*string
	Messages   [][]struct{ Role, Content string }
}

func lines(t testing.TB) (l linesFile) {
	t.Helper()
	if err := json.Unmarshal(load(t, "lines.json"), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestReadsPyArrow reads what Apache Arrow wrote, in every encoding and
// compression that is supported.
func TestReadsPyArrow(t *testing.T) {
	want := lines(t)
	for _, name := range []string{"snappy", "gzip", "zstd", "none", "plain-v2", "length", "byte", "checksum"} {
		name = "text-" + name + ".parquet"
		f, err := open(load(t, name))
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := read(f, "text")
		if err != nil {
			t.Fatal(name, err)
		}
		if !slices.Equal(got, want.Text) {
			t.Errorf("%s: %d values, want %d, or other ones", name, len(got), len(want.Text))
		}
	}
}

func TestNulls(t *testing.T) {
	f, err := open(load(t, "null.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := read(f, "text")
	if err != nil {
		t.Fatal(err)
	}
	l := lines(t)
	if want := []string{l.Text[0], "∅", "", l.Text[1]}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLists(t *testing.T) {
	for name, prefix := range map[string]string{"messages.parquet": "messages"} {
		f, err := open(load(t, name))
		if err != nil {
			t.Fatal(err)
		}
		roles, err := read(f, prefix+".list.element.role")
		if err != nil {
			t.Fatal(err)
		}
		contents, err := read(f, prefix+".list.element.content")
		if err != nil {
			t.Fatal(err)
		}
		var wantRoles, wantContents []string
		for _, chat := range lines(t).Messages {
			first := "|"
			for _, m := range chat {
				wantRoles, wantContents = append(wantRoles, first+m.Role), append(wantContents, first+m.Content)
				first = ""
			}
		}
		if !slices.Equal(roles, wantRoles) || !slices.Equal(contents, wantContents) {
			t.Errorf("%s: roles %q, contents %q", name, roles, contents)
		}
	}
}

func TestRefused(t *testing.T) {
	whole := load(t, "text-none.parquet")
	for _, c := range []struct {
		name string
		file []byte
		want string
		kind fault.Kind
	}{
		{"empty", nil, "too few", fault.Mismatch},
		{"cut", whole[:len(whole)-100], "does not end", fault.Mismatch},
		{"encrypted", append(slices.Clone(whole[:len(whole)-4]), "PARE"...), "encrypted", fault.Unsupported},
		{"footer too long", append(slices.Clone(whole[:len(whole)-8]), "\xff\xff\xff\x7fPAR1"...), "footer", fault.Mismatch},
		{"no schema", []byte("PAR1\x00\x01\x00\x00\x00PAR1"), "no schema", fault.Mismatch},
		{"lz4", load(t, "text-lz4.parquet"), "LZ4", fault.Unsupported},
		{"brotli", load(t, "text-brotli.parquet"), "Brotli", fault.Unsupported},
		{"numbers", load(t, "text-int.parquet"), "does not hold strings", fault.Unsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := open(c.file)
			if err == nil {
				_, err = read(f, "text")
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || fault.KindOf(err) != c.kind {
				t.Errorf("got %v (kind %d), want %q (kind %d)", err, fault.KindOf(err), c.want, c.kind)
			}
		})
	}
}

// A flipped byte in a page is noticed where the page has a checksum.
func TestChecksum(t *testing.T) {
	b := load(t, "text-checksum.parquet")
	b[len(b)/3] ^= 1
	f, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(f, "text"); fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), "checksum") {
		t.Errorf("got %v", err)
	}
}

// Whatever is damaged, reading ends in an error or in values, never in a panic
// or a large allocation.
func TestDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"text-snappy.parquet", "text-plain-v2.parquet", "text-length.parquet", "messages.parquet", "text-byte.parquet"} {
		b := load(t, name)
		for range 300 {
			bad := slices.Clone(b)
			for range 1 + r.IntN(4) {
				bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
			}
			drain(bad)
		}
	}
}

// drain reads at most a few thousand values of every column.
func drain(b []byte) {
	f, err := open(b)
	if err != nil {
		return
	}
	for g := range min(f.Groups(), 4) {
		for i := range min(len(f.Columns()), 4) {
			r, err := f.Values(g, i)
			for n := 0; err == nil && n < 4000; n++ {
				_, err = r.Next()
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range []string{"null.parquet", "messages.parquet", "large.parquet", "prompt.parquet"} {
		f.Add(load(f, name))
	}
	f.Fuzz(func(_ *testing.T, b []byte) { drain(b) })
}

// FuzzPage decodes a page's bytes in every encoding: without the footer around
// them the fuzzer gets further.
func FuzzPage(f *testing.F) {
	f.Add([]byte("\x03\x00\x00\x00abc\x00\x00\x00\x00"), uint8(plain), uint8(0), uint16(2))
	f.Add([]byte("\x02\x04\x00\x04\x01\x03\x05"), uint8(rleDictionary), uint8(1), uint16(5))
	f.Add([]byte("\x80\x01\x04\x03\x06\x00\x00\x00\x00\x00abcdefghi"), uint8(deltaLengthBytes), uint8(0), uint16(3))
	f.Add([]byte("\x80\x01\x04\x01\x00\x80\x01\x04\x01\x06abc"), uint8(deltaBytes), uint8(0), uint16(1))
	f.Fuzz(func(t *testing.T, body []byte, encoding, maxDef uint8, values uint16) {
		r := &Reader{column: Column{maxDef: int(maxDef % 4), listDef: 1}, dict: [][]byte{[]byte("a"), []byte("bc")}}
		if maxDef%4 > 1 {
			r.column.Levels = 1
		}
		var err error
		if r.rep, body, err = prefixed(body, r.column.Levels); err != nil {
			return
		}
		if r.def, body, err = prefixed(body, r.column.maxDef); err != nil {
			return
		}
		if r.data, err = r.strings(header{encoding: int64(encoding)}, body); err != nil {
			return
		}
		for range values {
			if _, err := r.value(); err != nil {
				return
			}
		}
	})
}
