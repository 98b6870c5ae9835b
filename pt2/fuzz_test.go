package pt2

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// entries reads the fixture's archive.
func entries(t testing.TB, name string) map[string]string {
	t.Helper()
	z, err := zip.OpenReader(filepath.Join("testdata", name, "model.pt2"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = string(b)
	}
	return out
}

type entry struct{ name, data string }

func zipped(t testing.TB, list ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, e := range list {
		f, err := w.Create(e.name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, e.data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func read(b []byte) (*Program, error) { return Read(bytes.NewReader(b), int64(len(b))) }

// TestHostile: archives that are not what they should be end with an error of
// kind Unsupported that says why.
func TestHostile(t *testing.T) {
	model := entries(t, "llama")["model/models/model.json"]
	for _, c := range []struct {
		name string
		list []entry
		want string
	}{
		{"nothing", nil, "not a torch.export archive"},
		{"another zip", []entry{{"a/b", ""}}, "not a torch.export archive"},
		{"traversal", []entry{{"../models/model.json", model}}, "unsafe path"},
		{"absolute", []entry{{"/models/model.json", model}}, "unsafe path"},
		{"backslash", []entry{{`m\..\..\x`, model}}, "unsafe path"},
		{"twice", []entry{{"models/model.json", model}, {"models/model.json", model}}, "two entries"},
		{"two programs", []entry{{"models/a.json", model}, {"models/b.json", model}}, "2 programs"},
		{"bomb", []entry{{"models/model.json", strings.Repeat(" ", 1<<24)}}, "claims"},
		{"no json", []entry{{"models/model.json", "{"}}, "model.json"},
		{"empty json", []entry{{"models/model.json", `{"schema_version":{"major":8}}`}}, "holds no graph"},
		{"deep", []entry{{"models/model.json", strings.Repeat(`{"graph_module":`, 20000)}}, "model.json"},
		{"future", []entry{{"models/model.json", strings.Replace(model, `"major": 8`, `"major": 9`, 1)}}, "version 9."},
		{"package without graph", []entry{{"archive_format", "pt2"}}, "no exported program"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := read(zipped(t, c.list...))
			if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want it to say %q", err, c.want)
			}
		})
	}
}

// TestCutShort: no prefix of an archive is read as one.
func TestCutShort(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "vit", "model.pt2"))
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < len(b); n += 997 {
		if _, err := read(b[:n]); err == nil {
			t.Fatalf("%d of %d bytes are accepted", n, len(b))
		}
	}
}

// TestUnknownOperation: it becomes opaque, with the right shape, and what went
// into it is not free.
func TestUnknownOperation(t *testing.T) {
	e := entries(t, "llama")
	model := strings.ReplaceAll(e["model/models/model.json"], "torch.ops.aten.silu.default", "torch.ops.mine.wobble.default")
	p, err := read(zipped(t, entry{"models/model.json", model}, entry{"extra/neuroseal.json", e["model/extra/neuroseal.json"]}))
	if err != nil {
		t.Fatal(err)
	}
	_, info, err := p.Graph(nil, Options{})
	if err != nil || info.Opaque["mine.wobble.default"] != 2 {
		t.Errorf("%+v, %v", info, err)
	}
}

// FuzzProgram: whatever the JSON says, reading and translating it end with an
// answer or an error.
func FuzzProgram(f *testing.F) {
	for _, name := range []string{"llama", "vit", "deepseek_v2", "t5", "qwen3_moe"} {
		model, extra := entries(f, name)["model/models/model.json"], `{"prefix":"model","ties":[["a","b"]]}`
		for first := 0; first < 160; first += 8 {
			if s := excerpt(f, model, first, 8); s != "" {
				f.Add(s, extra)
			}
		}
	}
	f.Add(`{"schema_version":{"major":8},"graph_module":{"graph":{}}}`, `{}`)
	f.Fuzz(func(t *testing.T, model, extra string) {
		p, err := read(zipped(t, entry{"models/model.json", model}, entry{"extra/neuroseal.json", extra}))
		if err != nil {
			return
		}
		p.Graph(nil, Options{})
		p.Graph(map[string][]int{"a": {2, 3}}, Options{AllowUnsealed: true})
	})
}

// excerpt is a program of some nodes of another, with what they read as inputs:
// the fuzzer is slow on large seeds.
func excerpt(t testing.TB, model string, first, n int) string {
	t.Helper()
	var all struct {
		Module struct {
			Graph struct {
				Nodes []struct {
					Target  string            `json:"target"`
					Inputs  []json.RawMessage `json:"inputs"`
					Outputs []json.RawMessage `json:"outputs"`
				} `json:"nodes"`
				Tensors map[string]struct {
					DType int               `json:"dtype"`
					Sizes []json.RawMessage `json:"sizes"`
				} `json:"tensor_values"`
			} `json:"graph"`
		} `json:"graph_module"`
	}
	if err := json.Unmarshal([]byte(model), &all); err != nil {
		t.Fatal(err)
	}
	g := all.Module.Graph
	if first+n > len(g.Nodes) {
		return ""
	}
	nodes, tensors, specs := g.Nodes[first:first+n], map[string]any{}, []any{}
	text, err := json.Marshal(nodes)
	if err != nil {
		t.Fatal(err)
	}
	last := ""
	for name, m := range g.Tensors {
		if !bytes.Contains(text, []byte(`"name":"`+name+`"}`)) {
			continue
		}
		tensors[name] = m
		arg := map[string]any{"as_tensor": map[string]string{"name": name}}
		specs = append(specs, map[string]any{"user_input": map[string]any{"arg": arg}})
	}
	for name := range tensors {
		if out, _ := json.Marshal(nodes[n-1].Outputs); bytes.Contains(out, []byte(`"`+name+`"`)) {
			last = name
		}
	}
	out, err := json.Marshal(map[string]any{
		"schema_version": map[string]int{"major": 8},
		"graph_module": map[string]any{
			"graph": map[string]any{"nodes": nodes, "tensor_values": tensors},
			"signature": map[string]any{"input_specs": specs, "output_specs": []any{
				map[string]any{"user_output": map[string]any{"arg": map[string]any{"as_tensor": map[string]string{"name": last}}}},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// FuzzArchive: no bytes make the reader fail otherwise than with an error.
func FuzzArchive(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join("testdata", "llama", "*.pt2"))
	if err != nil || len(seeds) < 4 {
		f.Fatal(seeds, err)
	}
	for _, name := range append(seeds, filepath.Join("testdata", "vit", "model.pt2")) {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(zipped(f, entry{"models/model.json", "{}"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := read(b); err == nil {
			p.Graph(nil, Options{})
		}
	})
}
