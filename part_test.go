package neuroseal

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// TestAssign: every shard falls to exactly one part, and no part has more than
// the mean and one shard.
func TestAssign(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "parts")
		var shards []checkpoint.Shard
		var total, largest int64
		for i, size := range rapid.SliceOfN(rapid.Int64Range(0, 1000), 1, 30).Draw(t, "sizes") {
			shards = append(shards, checkpoint.Shard{Path: fmt.Sprintf("model-%02d", i), Size: size})
			total, largest = total+size, max(largest, size)
		}
		seen := make([]int, len(shards))
		for i := 1; i <= n; i++ {
			own, all := Part{i, n}.share(shards)
			var load int64
			for k, s := range own {
				seen[s]++
				load += shards[s].Size
				if all[k] != s {
					t.Fatalf("part %d measures %v first, its own are %v", i, all, own)
				}
			}
			if load > total/int64(min(n, len(shards)))+largest+int64(len(shards)) {
				t.Fatalf("part %d of %d has %d of %d bytes", i, n, load, total)
			}
			if sorted := slices.Sorted(slices.Values(all)); len(all) != len(shards) || sorted[0] != 0 || sorted[len(sorted)-1] != len(shards)-1 {
				t.Fatalf("part %d measures %v", i, all)
			}
		}
		if slices.ContainsFunc(seen, func(k int) bool { return k != 1 }) {
			t.Fatalf("shards fall to %v parts", seen)
		}
	})
}

func TestParsePart(t *testing.T) {
	for s, want := range map[string]Part{"1/1": {1, 1}, "2/3": {2, 3}, "12/16": {12, 16}} {
		if p, err := ParsePart(s); err != nil || p != want || p.String() != s {
			t.Errorf("%s: %v, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "1", "/", "0/3", "4/3", "-1/3", "1/0", "1/3/3", " 1/3", "01/3", "+1/3", "1/9999999999", "1/9999999"} {
		if p, err := ParsePart(s); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
			t.Errorf("%q: %v, %v", s, p, err)
		}
	}
}

// TestMeasuredKeepsEveryBit: a record gives back the statistics that it holds.
func TestMeasuredKeepsEveryBit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := func(label string) float64 {
			return math.Float64frombits(rapid.Uint64().Draw(t, label))
		}
		i := func(label string) int { return rapid.Int().Draw(t, label) }
		s := dtype.Stats{
			Max: i("max"), Min: i("min"), Subnormal: rapid.Bool().Draw(t, "subnormal"), SumSq: f("sum"), MaxRowSumSq: f("row"),
			Rows: i("rows"), LogRowMean: f("mean"), LogRowM2: f("m2"), N: int64(i("n")), Zero: int64(i("zero")), NonFinite: int64(i("nf")),
		}
		var a, b measuredTensor
		a.set(&s)
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := decodeRecord(text, &b); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		got := reflect.ValueOf(*b.stats())
		for k, v := 0, reflect.ValueOf(s); k < v.NumField(); k++ {
			if x, y := v.Field(k), got.Field(k); x.Kind() == reflect.Float64 {
				if same := x.Float() == y.Float() || math.IsNaN(x.Float()) && math.IsNaN(y.Float()); !same {
					t.Fatalf("%s: %v became %v", v.Type().Field(k).Name, x, y)
				}
			} else if !x.Equal(y) {
				t.Fatalf("%s: %v became %v", v.Type().Field(k).Name, x, y)
			}
		}
	})
}

// TestPartsEqualWhole: for any checkpoint, any options and any number of parts,
// in any order, the parts put together are what one lock makes, byte for byte;
// and the parts folder is gone.
func TestPartsEqualWhole(t *testing.T) {
	for _, typ := range arch.Types() {
		t.Run(typ, func(t *testing.T) {
			t.Parallel()
			needsFixture(t, typ)
			locked := 0
			var turn fewer
			rapid.Check(t, func(rt *rapid.T) {
				d := func(label string, n int) int { return rapid.IntRange(0, n-1).Draw(rt, label) }
				if !turn.now(typ) {
					return
				}
				defer func() { turn.failed = turn.failed || rt.Failed() }()
				c := drawTiny(typ, d)
				c.shards = 1 + d("shards", 5)
				o := LockOptions{Time: time.Unix(1e9, 0), AllowSealed: true}
				if options(d, &o); d("legacy", 6) == 0 {
					o = LockOptions{Time: o.Time, Key: o.Key, AllowSealed: true, Method: pick(d, "method", seal.Static, seal.Dynamic)}
				}
				if partsEqualWhole(rt, c, o, 1+d("parts", 7), d) {
					locked++
				}
			})
			if locked == 0 && turn.ran > turn.tolerated(typ) {
				t.Error("every checkpoint was refused")
			}
		})
	}
}

func partsEqualWhole(t *rapid.T, c tiny, o LockOptions, n int, d drawer) bool {
	ctx := context.Background()
	root, err := os.MkdirTemp("", "neuroseal")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	o.Source, o.Output = filepath.Join(root, "src"), filepath.Join(root, "whole")
	c.write(t, o.Source)
	_, whole := Lock(ctx, o)
	o.Output = filepath.Join(root, "out")
	order := rand.New(rand.NewPCG(uint64(d("order", 1000)), 1)).Perm(n)
	for _, i := range order {
		r, err := LockPart(ctx, o, Part{i + 1, n})
		if whole != nil && (err == nil && len(r.Shards) > 0 || err != nil && fault.KindOf(err) != fault.KindOf(whole)) {
			t.Fatalf("part %d of %d: %+v, %v; lock: %v", i+1, n, r, err, whole)
		}
		if whole == nil && err != nil {
			t.Fatalf("part %d of %d: %v", i+1, n, err)
		}
		if _, err := os.Lstat(o.Output); err == nil {
			t.Fatal("a part made the output visible")
		}
	}
	if whole != nil {
		return false
	}
	if _, err := LockFinish(ctx, o); err != nil {
		t.Fatalf("%d parts: %v", n, err)
	}
	sameFolder(t, filepath.Join(root, "whole"), o.Output)
	if list, _ := os.ReadDir(root); len(list) != 3 {
		t.Fatalf("left behind: %v", list)
	}
	return true
}

// sharded writes a checkpoint of one family in several shards.
func sharded(t *testing.T, typ string, shards int) string {
	t.Helper()
	c := drawTiny(typ, func(string, int) int { return 0 })
	c.shards, c.spice = shards, spice{}
	c.config["rms_norm_eps"] = 1e-5
	src := filepath.Join(t.TempDir(), "src")
	c.write(t, src)
	return src
}

// partsCase is a seal of three shards in three parts.
func partsCase(t *testing.T) LockOptions {
	return LockOptions{Source: sharded(t, "llama", 3), Output: filepath.Join(t.TempDir(), "out"), Profile: seal.Strong,
		Key: keys.SealKey{7}, Time: time.Unix(1e9, 0)}
}

func lockParts(t *testing.T, o LockOptions, parts ...Part) {
	t.Helper()
	for _, p := range parts {
		if _, err := LockPart(context.Background(), o, p); err != nil {
			t.Fatalf("part %v: %v", p, err)
		}
	}
}

// refused demands an error of a kind whose message and hint hold the words.
func refused(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	text := fmt.Sprint(err, " | ", fault.HintOf(err))
	if fault.KindOf(err) != kind || fault.HintOf(err) == "" {
		t.Errorf("kind %d, want %d: %s", fault.KindOf(err), kind, text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not name %q", text, w)
		}
	}
}

func finish(o LockOptions) error {
	_, err := LockFinish(context.Background(), o)
	return err
}

// third names the shard of a part of three.
func third(t *testing.T, o LockOptions, part int) string {
	t.Helper()
	ck, err := checkpoint.Open(o.Source)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	own, _ := Part{part, 3}.share(ck.Shards())
	return ck.Shards()[own[0]].Path
}

// TestPartsAreRepeatable: what is complete is not sealed again, and different
// counts of parts fit together.
func TestPartsAreRepeatable(t *testing.T) {
	ctx := context.Background()
	o := partsCase(t)
	lockParts(t, o, Part{1, 3})
	r, err := LockPart(ctx, o, Part{1, 3})
	if err != nil || len(r.Shards) != 1 || !r.Shards[0].Skipped || r.Bytes != 0 || r.Done.Shards != 1 || r.All.Shards != 3 {
		t.Errorf("again: %+v, %v", r, err)
	}
	plan := r.Plan
	r, err = LockPart(ctx, o, Part{1, 1})
	if err != nil || len(r.Shards) != 3 || r.Done != r.All || r.Plan != plan {
		t.Errorf("all: %+v, %v", r, err)
	}
	skipped := 0
	for _, s := range r.Shards {
		if s.Skipped {
			skipped++
		}
	}
	if skipped != 1 {
		t.Errorf("%d shards skipped, want 1", skipped)
	}
	if err := finish(o); err != nil {
		t.Fatal(err)
	}
	refused(t, finish(o), fault.Usage, "no parts to finish")
}

// TestFinishRefuses: what is missing or does not fit is named, with the part to
// be run again; then it is, and the seal is whole.
func TestFinishRefuses(t *testing.T) {
	o := partsCase(t)
	refused(t, finish(o), fault.Usage, "no parts to finish", "--part 1/n")
	lockParts(t, o, Part{1, 3}, Part{3, 3})
	refused(t, finish(o), fault.Usage, "1 of 3 shards", third(t, o, 2)+" (part 2/3)")
	lockParts(t, o, Part{2, 3})

	other := o
	other.Key = keys.SealKey{8}
	refused(t, finish(other), fault.Usage, "the key is another")
	other = o
	other.Profile = seal.Max
	refused(t, finish(other), fault.Usage, "profile is strong there and max here")
	_, err := LockPart(context.Background(), other, Part{2, 3})
	refused(t, err, fault.Usage, "profile is strong there and max here", "remove that folder")

	// A damaged shard.
	folder := PartsFolder(o.Output)
	damage(t, filepath.Join(folder, sealedFolder, third(t, o, 2)))
	refused(t, finish(o), fault.Mismatch, third(t, o, 2), "part 2/3", "damaged", "--part 2/3")
	lockParts(t, o, Part{2, 3})
	// A shard by another plan.
	edit(t, filepath.Join(folder, recordsFolder, third(t, o, 1)+".json"), `"plan":"sha256:`, `"plan":"sha256:00`)
	refused(t, finish(o), fault.Mismatch, third(t, o, 1), "part 1/3", "by plan 00", "--part 1/3")
	lockParts(t, o, Part{1, 3})
	// A record that is none.
	edit(t, filepath.Join(folder, recordsFolder, third(t, o, 3)+".json"), `{`, `[`)
	refused(t, finish(o), fault.Mismatch, third(t, o, 3))
	lockParts(t, o, Part{3, 3})
	if _, err := os.Lstat(o.Output); err == nil {
		t.Fatal("a refused finish left an output")
	}

	if err := finish(o); err != nil {
		t.Fatal(err)
	}
	whole := o
	whole.Output = filepath.Join(t.TempDir(), "whole")
	if _, err := Lock(context.Background(), whole); err != nil {
		t.Fatal(err)
	}
	sameFolder(t, whole.Output, o.Output)
}

// TestSourceChangesBetweenParts: a shard that changed is noticed, and so are the
// parts that knew it as it was.
func TestSourceChangesBetweenParts(t *testing.T) {
	o := partsCase(t)
	all := []Part{{1, 3}, {2, 3}, {3, 3}}
	lockParts(t, o, all...)
	path := filepath.Join(o.Source, third(t, o, 2))
	// Another time alone is no change.
	later := time.Now().Add(time.Hour)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage(t, path)
	refused(t, finish(o), fault.Mismatch, third(t, o, 2), "part 2/3", "the source has changed", "--part 2/3")
	if err := os.WriteFile(path, before, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := finish(o); err != nil {
		t.Fatal(err)
	}

	// Other weights make another plan: the other parts are named.
	o.AllowSealed = true
	o.Output = filepath.Join(t.TempDir(), "out")
	lockParts(t, o, all...)
	grow(t, path)
	lockParts(t, o, Part{2, 3})
	refused(t, finish(o), fault.Mismatch, "part 1/3", "by plan", "--part 1/3, --part 3/3")
	lockParts(t, o, all...)
	if err := finish(o); err != nil {
		t.Fatal(err)
	}

	// Other tensors: another checkpoint altogether.
	o.Output = filepath.Join(t.TempDir(), "out")
	lockParts(t, o, Part{1, 3})
	edit(t, filepath.Join(o.Source, "config.json"), "0.00001", "0.00002")
	_, err = LockPart(context.Background(), o, Part{2, 3})
	refused(t, err, fault.Mismatch, "config.json differs")
}

// damage inverts a file's last byte.
func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

// grow multiplies all bf16 elements of a file by 2^48, which leaves a seal less room.
func grow(t *testing.T, path string) {
	t.Helper()
	ck, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range ck.Tensors() {
		for i := x.Offset; i < x.Offset+x.Size; i += 2 {
			b[i+1] += 24 // half of the exponent's steps
		}
	}
	ck.Close()
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), from) {
		t.Fatalf("%s does not hold %q", path, from)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), from, to, 1)), 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestPartsMeasureTogether: weights that one part has measured are not read
// again by another to plan.
func TestPartsMeasureTogether(t *testing.T) {
	o := partsCase(t)
	o.Profile = seal.Portable
	lockParts(t, o, Part{1, 3})
	for _, name := range []string{activationsName, measuredFolder + "/" + third(t, o, 2) + ".json"} {
		path := filepath.Join(PartsFolder(o.Output), name)
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		lockParts(t, o, Part{2, 3})
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s was written again (%v)", name, err)
		}
	}
}

// TestPartNeedsSpace: each part asks for its own share only.
func TestPartNeedsSpace(t *testing.T) {
	o := partsCase(t)
	defer func(f func(string) (int64, error)) { freeSpace = f }(freeSpace)
	info, err := os.Stat(filepath.Join(o.Source, third(t, o, 1)))
	if err != nil {
		t.Fatal(err)
	}
	free := info.Size() + 1<<20
	freeSpace = func(string) (int64, error) { return free, nil }
	lockParts(t, o, Part{1, 3})
	_, err = LockPart(context.Background(), o, Part{1, 1})
	if fault.KindOf(err) != fault.NoSpace {
		t.Errorf("all parts: %v", err)
	}
	free = 0
	lockFull := func() { _, err = LockPart(context.Background(), o, Part{2, 3}) }
	if lockFull(); fault.KindOf(err) != fault.NoSpace {
		t.Errorf("a full disk: %v", err)
	}
	if list, _ := os.ReadDir(filepath.Dir(o.Output)); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}

// TestPartInterrupted: a cancelled part says that it can go on.
func TestPartInterrupted(t *testing.T) {
	o := partsCase(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := LockPart(ctx, o, Part{1, 3})
	refused(t, err, fault.Interrupted, "the same command goes on")
	lockParts(t, o, Part{1, 1})
	_, err = LockFinish(ctx, o)
	refused(t, err, fault.Interrupted, "the same command starts again")
	if err := finish(o); err != nil {
		t.Fatal(err)
	}
}

// FuzzRecords: records are read from a folder that others may write to.
func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"schema":1,"part":"1/2","setup":"","plan":"","source":{"size":1,"modified":2},"original_sha256":"","sha256":"","checksums":[]}`))
	f.Add([]byte(`{"schema":1,"source":{},"tensors":[{"name":"a","crc32c":"00000000","sum_sq":"+Inf","n":3}]}`))
	f.Add([]byte(`{"schema":1,"weights":"","log_max":["-Inf","1"]}`))
	f.Add([]byte(`{"schema":1} {}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range []any{new(shardRecord), new(measuredShard), new(activations), new(partsSetup)} {
			if err := decodeRecord(b, v); err != nil {
				if fault.KindOf(err) != fault.Mismatch {
					t.Errorf("kind %d: %v", fault.KindOf(err), err)
				}
				continue
			}
			again, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			if err := decodeRecord(again, v); err != nil {
				t.Errorf("what is written is not read: %v\n%s", err, again)
			}
		}
	})
}

// TestPartsFolderInTheWay: the folder of the parts is removed in the end, so what
// somebody else put there is refused and stays.
func TestPartsFolderInTheWay(t *testing.T) {
	dir := t.TempDir()
	o := LockOptions{Source: "internal/demo/model", Output: filepath.Join(dir, "out"), Method: seal.Gauge, Profile: seal.Max, Key: keys.NewSealKey()}
	precious := filepath.Join(PartsFolder(o.Output), "precious")
	if err := os.Mkdir(filepath.Dir(precious), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(precious, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	_, part := LockPart(t.Context(), o, Part{1, 1})
	_, finish := LockFinish(t.Context(), o)
	for _, err := range []error{part, finish} {
		if fault.KindOf(err) != fault.Usage || !strings.Contains(fmt.Sprint(err), "precious") {
			t.Errorf("%v", err)
		}
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}
