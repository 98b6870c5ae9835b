package corpus

import (
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func put(t testing.TB, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustOpen(t testing.TB, spec string, o Options) *Corpus {
	t.Helper()
	c, err := Open(context.Background(), spec, Bytes(256), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// content is what bytes stand in a corpus.
func content(c *Corpus) string { return string(toBytes(c.Train)) + string(toBytes(c.Heldout)) }

type fixture struct {
	Text, Test []string
	Messages   [][]struct{ Role, Content string }
	Nulls      []*string
}

func fixtures(t testing.TB) (f fixture) {
	t.Helper()
	b, err := os.ReadFile("testdata/data/lines.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func documents(texts []string) string { return strings.Join(texts, "\n\n") + "\n\n" }

func chats(f fixture) (out []string) {
	for _, chat := range f.Messages {
		var s string
		for _, m := range chat {
			s += "<|im_start|>" + m.Role + "\n" + m.Content + "<|im_end|>\n"
		}
		out = append(out, s)
	}
	return out
}

// TestDatasets opens files that Apache Arrow wrote, and compares all their text.
func TestDatasets(t *testing.T) {
	f := fixtures(t)
	var pairs []string
	for _, s := range f.Text[:30] {
		pairs = append(pairs, s+strings.ToUpper(s))
	}
	for name, want := range map[string]string{
		"text-snappy.parquet": documents(f.Text),
		"text-byte.parquet":   documents(f.Text),
		"lines.jsonl.gz":      documents(f.Text),
		"large.parquet":       documents(f.Text[:30]),
		"null.parquet":        documents(f.Text[:2]),
		"prompt.parquet":      documents(pairs),
		"messages.parquet":    documents(chats(f)),
		"prompt-chat.parquet": documents(chats(f)),
	} {
		t.Run(name, func(t *testing.T) {
			c := mustOpen(t, "testdata/data/"+name, Options{})
			if content(c) != want {
				t.Errorf("the text is another: %d bytes, want %d", len(content(c)), len(want))
			}
			if c.Split != "last tenth" || len(c.Heldout) != len(want)/10 {
				t.Errorf("%d of %d held out (%s)", len(c.Heldout), len(want), c.Split)
			}
		})
	}
}

func TestHubFolder(t *testing.T) {
	f := fixtures(t)
	c := mustOpen(t, "testdata/data/hub", Options{})
	if got, want := string(toBytes(c.Train)), documents(f.Text); got != want {
		t.Errorf("trained on %d bytes, want %d", len(got), len(want))
	}
	if got, want := string(toBytes(c.Heldout)), documents(f.Test); c.Split != "test" || !strings.HasPrefix(want, got) || len(got) < len(want)/2 {
		t.Errorf("held out: %q of %s", got, c.Split)
	}
}

func TestSplits(t *testing.T) {
	for name, c := range map[string]struct {
		files          []string
		train, heldout string
		split          string
	}{
		"keywords":       {[]string{"data/train-0.txt", "data/train-1.txt", "data/validation-0.txt"}, "data/train-0.txt data/train-1.txt", "data/validation-0.txt", "validation"},
		"test first":     {[]string{"train.txt", "test.txt", "valid.txt"}, "train.txt", "test.txt", "test"},
		"folders":        {[]string{"train/0.txt", "dev/0.txt"}, "train/0.txt", "dev/0.txt", "validation"},
		"no keyword":     {[]string{"a.txt", "b.txt"}, "a.txt b.txt", "", ""},
		"one is test":    {[]string{"a.txt", "b_test.txt"}, "a.txt", "b_test.txt", "test"},
		"only test":      {[]string{"test.txt"}, "test.txt", "", ""},
		"not a word":     {[]string{"latest.txt", "contest.txt"}, "contest.txt latest.txt", "", ""},
		"hidden, others": {[]string{".git/x.txt", ".y.txt", "a.txt", "b.bin", "README.txt"}, "a.txt", "", ""},
		"lines first":    {[]string{"a.txt", "b.jsonl"}, "b.jsonl", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range c.files {
				put(t, dir, f, "x")
			}
			set, err := find(dir)
			if err != nil {
				t.Fatal(err)
			}
			rel := func(paths []string) string {
				for i, p := range paths {
					r, _ := filepath.Rel(dir, p)
					paths[i] = filepath.ToSlash(r)
				}
				return strings.Join(paths, " ")
			}
			if got := rel(set.train); got != c.train {
				t.Errorf("train %q, want %q", got, c.train)
			}
			if got := rel(set.heldout); got != c.heldout || set.split != c.split {
				t.Errorf("held out %q (%s), want %q (%s)", got, set.split, c.heldout, c.split)
			}
		})
	}
}

// A text is one document, whatever its length, and every byte of it arrives.
func TestLongText(t *testing.T) {
	dir := t.TempDir()
	var b strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&b, "line %d …\n", i)
	}
	b.WriteString(strings.Repeat("é", 200_000)) // no line end to cut at
	c := mustOpen(t, put(t, dir, "long.txt", b.String()), Options{})
	if content(c) != b.String()+"\n\n" {
		t.Errorf("%d bytes, want %d", len(content(c)), b.Len()+2)
	}
	c = mustOpen(t, filepath.Join(dir, "long.txt"), Options{MaxTokens: 1000})
	if len(c.Train) != 900 || len(c.Heldout) != 100 || content(c) != b.String()[:1000] {
		t.Errorf("%d and %d tokens of at most 1000", len(c.Train), len(c.Heldout))
	}
}

func TestRefusedData(t *testing.T) {
	dir := t.TempDir()
	long := strings.Repeat("0123456789", 10)
	line := `{"text":"` + long + `"}` + "\n"
	var packed strings.Builder
	w := gzip.NewWriter(&packed)
	for i := range 2000 {
		fmt.Fprintln(w, i*i)
	}
	w.Close()
	put(t, dir, "empty/nothing.bin", "x")
	for name, c := range map[string]struct {
		content, field, want string
		kind                 fault.Kind
	}{
		"not.jsonl":      {line + "{\n", "", "line 2", fault.Mismatch},
		"list.jsonl":     {line + "[1]\n", "", "line 2", fault.Mismatch},
		"other.jsonl":    {`{"a":"x","b":1}`, "", "a, b", fault.Unsupported},
		"number.jsonl":   {`{"text":5}`, "", `"text"`, fault.Unsupported},
		"field.jsonl":    {line, "body", `"body"`, fault.Unsupported},
		"role.jsonl":     {`{"messages":[{"content":"x"}]}`, "", "message 0", fault.Unsupported},
		"image.jsonl":    {`{"messages":[{"role":"user","content":[{"type":"image"}]}]}`, "", "message 0", fault.Unsupported},
		"latin.jsonl":    {line + "{\"text\":\"\xe9\"}", "", "line 2: it is not UTF-8", fault.Mismatch},
		"null.jsonl":     {"null", "", "line 1", fault.Mismatch},
		"huge.jsonl":     {`{"text":"` + strings.Repeat("x", maxRow) + `"}`, "", "line 1: it is longer", fault.Unsupported},
		"array.json":     {`[{"text":"x"},{"text":3}]`, "", "behind byte 13", fault.Unsupported},
		"cut.json":       {`[{"text":"x"},{"text`, "", "not JSON", fault.Mismatch},
		"huge.json":      {`[{"text":"` + strings.Repeat("x", maxRow) + `"}]`, "", "longer", fault.Unsupported},
		"empty.txt":      {"", "", "too few", fault.Usage},
		"cut.txt.gz":     {packed.String()[:packed.Len()-20], "", "compressed file", fault.Mismatch},
		"damaged.txt.gz": {packed.String()[:packed.Len()-8] + "12345678", "", "checksum", fault.General},
		"not.txt.gz":     {"plain", "", "gzip", fault.Mismatch},
		"not.txt.zst":    {"plain", "", "", fault.General},
		"not.parquet":    {strings.Repeat("x", 100), "", "Parquet", fault.Mismatch},
		"x.parquet.gz":   {"x", "", "as a whole", fault.Unsupported},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && len(c.content) > maxRow {
				t.Skip("long")
			}
			_, err := Open(context.Background(), put(t, dir, name, c.content), Bytes(256), Options{Field: c.field})
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), name) {
				t.Errorf("error %q does not say %q and the file", err, c.want)
			}
			if got := fault.KindOf(err); got != c.kind {
				t.Errorf("kind %d, want %d: %v", got, c.kind, err)
			}
		})
	}
	for spec, want := range map[string]string{
		filepath.Join(dir, "missing"): "missing", filepath.Join(dir, "empty"): "holds no", "builtin:novels": "novels",
		"testdata/data/numbers.parquet": "number", "testdata/data/text-int.parquet": "neither of strings",
	} {
		if _, err := Open(context.Background(), spec, Bytes(256), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, spec := range []string{"builtin:tales", "testdata/data/large.parquet"} {
		if _, err := Open(ctx, spec, Bytes(256), Options{}); fault.KindOf(err) != fault.Interrupted {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// TestBatchIsSpecified follows the doc comment in other words, so that what it
// says is what other languages compute.
func TestBatchIsSpecified(t *testing.T) {
	c := mustOpen(t, "builtin:tales", Options{MaxTokens: 5000})
	var key uint64
	for i := range 8 {
		var b uint64
		fmt.Sscanf(c.Digest[2*i:2*i+2], "%02x", &b)
		key |= b << (8 * i)
	}
	rapid.Check(t, func(t *rapid.T) {
		seed, step := rapid.Uint64().Draw(t, "seed"), rapid.IntRange(0, 1<<30).Draw(t, "step")
		batch, window := rapid.IntRange(1, 5).Draw(t, "batch"), rapid.IntRange(1, 400).Draw(t, "window")
		tokens, targets := c.Batch(seed, step, batch, window)
		for r := range batch {
			x := key + seed*0x9E3779B97F4A7C15 + uint64(step)*uint64(batch) + uint64(r)
			x += 0x9E3779B97F4A7C15
			x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
			x = (x ^ x>>27) * 0x94D049BB133111EB
			x ^= x >> 31
			n := uint64(len(c.Train) - window)
			start := int((x>>32*n + (x&0xFFFFFFFF)*n>>32) >> 32)
			if !slices.Equal(tokens[r*window:(r+1)*window], c.Train[start:start+window]) {
				t.Fatalf("row %d does not begin at %d", r, start)
			}
			if !slices.Equal(targets[r*window:(r+1)*window], c.Train[start+1:start+window+1]) {
				t.Fatalf("row %d: the targets are not the tokens that follow", r)
			}
		}
	})
}

func TestEval(t *testing.T) {
	c := mustOpen(t, "builtin:logs", Options{MaxTokens: 5000})
	tokens, targets := c.Eval(4, 100)
	for i, start := range []int{0, 100, 200, 300} {
		if !slices.Equal(tokens[i*100:(i+1)*100], c.Heldout[start:start+100]) || !slices.Equal(targets[i*100:(i+1)*100], c.Heldout[start+1:start+101]) {
			t.Errorf("window %d does not begin at %d of %d", i, start, len(c.Heldout))
		}
	}
	if tokens, _ := c.Eval(0, 100); len(tokens) != 0 {
		t.Error("no windows have tokens")
	}
}

func TestFits(t *testing.T) {
	c := mustOpen(t, "builtin:code", Options{MaxTokens: 1000})
	for window, ok := range map[int]bool{0: false, 1: true, 99: true, 100: false} {
		if err := c.Fits(window); (err == nil) != ok {
			t.Errorf("windows of %d: %v", window, err)
		}
	}
}

func TestUnigram(t *testing.T) {
	c := &Corpus{Train: []int32{0, 0, 1}, Heldout: []int32{0, 2}}
	want := -(math.Log(3.0/7) + math.Log(1.0/7)) / 2
	if got := c.Unigram(4); math.Abs(got-want) > 1e-12 {
		t.Errorf("%v, want %v", got, want)
	}
	if got := c.Unigram(2); !math.IsInf(got, 1) {
		t.Errorf("a token outside of the vocabulary costs %v", got)
	}
}

// The digest covers what is trained on and by which tokenizer.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	a := put(t, dir, "a.txt", strings.Repeat("abc", 100))
	b := put(t, dir, "b.txt", strings.Repeat("abc", 100))
	d := put(t, dir, "d.txt", strings.Repeat("abc", 99)+"abd")
	one := mustOpen(t, a, Options{}).Digest
	if other := mustOpen(t, b, Options{}).Digest; other != one {
		t.Error("the digest depends on the file's name")
	}
	if other := mustOpen(t, d, Options{}).Digest; other == one {
		t.Error("the digest does not depend on the text")
	}
	c, err := Open(context.Background(), a, byteTokenizer{256, 256}, Options{})
	if err != nil || c.Digest == one {
		t.Errorf("the digest does not depend on the tokenizer (%v)", err)
	}
	const golden = "7de4e548313e81be"
	if one[:16] != golden {
		t.Errorf("digest %s…, want %s…: earlier runs had that", one[:16], golden)
	}
}

func TestExport(t *testing.T) {
	c := mustOpen(t, "builtin:code", Options{MaxTokens: 3000})
	dir := filepath.Join(t.TempDir(), "out")
	r := Run{Seed: 7, Steps: 3, Batch: 2, Window: 50, Evals: 4}
	if err := c.Export(dir, r); err != nil {
		t.Fatal(err)
	}
	var h struct {
		Format, Digest, Train, Heldout string
		Steps, Batch, Window, Evals    int
	}
	b, err := os.ReadFile(filepath.Join(dir, "corpus.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	if h.Format != "neuroseal-batches/1" || h.Digest != c.Digest || h.Steps != 3 || h.Evals != 4 {
		t.Errorf("header %s", b)
	}
	rows := readRows(t, filepath.Join(dir, h.Train), 3*2, 51)
	for step := range 3 {
		tokens, targets := c.Batch(7, step, 2, 50)
		for i := range 2 {
			row := rows[step*2+i]
			if !slices.Equal(row[:50], tokens[i*50:(i+1)*50]) || !slices.Equal(row[1:], targets[i*50:(i+1)*50]) {
				t.Errorf("step %d, row %d is another", step, i)
			}
		}
	}
	tokens, _ := c.Eval(4, 50)
	for i, row := range readRows(t, filepath.Join(dir, h.Heldout), 4, 51) {
		if !slices.Equal(row[:50], tokens[i*50:(i+1)*50]) {
			t.Errorf("held-out row %d is another", i)
		}
	}
	if err := c.Export(dir, r); fault.KindOf(err) != fault.Usage {
		t.Errorf("a folder that is there was written over: %v", err)
	}
}

func readRows(t *testing.T, path string, n, width int) [][]int32 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 4*n*width {
		t.Fatalf("%s has %d bytes, want %d", path, len(b), 4*n*width)
	}
	rows := make([][]int32, n)
	for i := range rows {
		for j := range width {
			rows[i] = append(rows[i], int32(binary.LittleEndian.Uint32(b[4*(i*width+j):])))
		}
	}
	return rows
}

func FuzzJSONLines(f *testing.F) {
	f.Add([]byte(`{"text":"a"}`+"\n"+`{"messages":[{"role":"user","content":"b"}]}`), "")
	f.Add([]byte(`[{"prompt":"a","completion":[{"role":"x","content":[{"text":"y"}]}]},{"content":""}]`), "")
	f.Add([]byte("\ufeff\n {\"body\":\"\\ud800\"}\n\n"), "body")
	f.Fuzz(func(t *testing.T, data []byte, field string) {
		total := 0
		err := readJSONLines(strings.NewReader(string(data)), field, func(part []byte, last bool) error {
			total += len(part)
			if !last || len(part) == 0 {
				t.Fatalf("emitted %q, %v", part, last)
			}
			return nil
		})
		// A message's frame is the only text that is not in the data, and an
		// escape may take fewer bytes there than here.
		if err == nil && total > 16*len(data)+64 {
			t.Fatalf("%d bytes of text from %d", total, len(data))
		}
	})
}
