package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/safetensors"
)

// mkshards copies a checkpoint and deals its tensors out to n shards, of
// unequal sizes.
func mkshards(src, dst string, n int) error {
	ck, err := checkpoint.Open(src)
	if err != nil {
		return err
	}
	defer ck.Close()
	if err := os.MkdirAll(dst, 0o777); err != nil {
		return err
	}
	for _, f := range ck.OtherFiles() {
		b, err := os.ReadFile(filepath.Join(src, f.Path))
		if err := errors.Join(err, os.WriteFile(filepath.Join(dst, f.Path), b, 0o666)); err != nil {
			return err
		}
	}
	shards := make([][]safetensors.Tensor, n)
	for i, t := range ck.Tensors() {
		b := make([]byte, t.Size)
		if err := ck.ReadAt(t, b, 0); err != nil {
			return err
		}
		k := i * i % n // some shards get more
		if i < n {
			k = i
		}
		shards[k] = append(shards[k], safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Name: t.Name, DType: t.DType, Shape: t.Shape}, Data: b})
	}
	return writeShards(dst, shards)
}

func writeShards(dst string, shards [][]safetensors.Tensor) error {
	index := map[string]string{}
	for i, list := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		f, err := os.Create(filepath.Join(dst, name))
		if err != nil {
			return err
		}
		if err := errors.Join(safetensors.Write(f, map[string]string{"format": "pt"}, list), f.Close()); err != nil {
			return err
		}
		for _, t := range list {
			index[t.Name] = name
		}
	}
	b, err := json.Marshal(map[string]any{"metadata": map[string]any{}, "weight_map": index})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dst, "model.safetensors.index.json"), b, 0o666)
}

// scriptMakeShards deals a checkpoint's tensors out: mkshards SRC DST N.
func scriptMakeShards(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Check(mkshards(ts.MkAbs(args[0]), ts.MkAbs(args[1]), n))
}

// parts is a sharded checkpoint, its key, and the sealed whole.
type parts struct{ src, key, whole string }

func makeParts(t *testing.T) parts {
	t.Helper()
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dir := t.TempDir()
	p := parts{filepath.Join(dir, "src"), filepath.Join(dir, "key"), filepath.Join(dir, "whole")}
	if err := mkshards(fixture(t, "../../arch/testdata/llama-tied"), p.src, 3); err != nil {
		t.Fatal(err)
	}
	if err := keys.WriteKeyFile(p.key, keys.NewSealKey()); err != nil {
		t.Fatal(err)
	}
	p.run(t, p.whole)
	return p
}

// args are those of a lock of these parts.
func (p parts) args(dst string, more ...string) []string {
	return append([]string{"lock", p.src, dst, "--key-file", p.key}, more...)
}

func (p parts) run(t *testing.T, dst string, more ...string) {
	t.Helper()
	if code, out := child(t, 0, p.args(dst, more...)...); code != 0 {
		t.Fatalf("%v: exit code %d\n%s", more, code, out)
	}
}

// sealed demands that dst is the whole, and that nothing but it is left.
func (p parts) sealed(t *testing.T, dst, when string) {
	t.Helper()
	if diff, err := treeDiff(p.whole, dst); diff != "" || err != nil {
		t.Fatalf("%s: the output differs in %s (%v)", when, diff, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(dst)); len(left) != 1 {
		t.Fatalf("%s: left behind: %v", when, left)
	}
}

// each kills a command at every operation in turn, until one gets through, and
// calls after for each kill.
func (p parts) each(t *testing.T, setup func(dst string), command []string, after func(dst, when string)) {
	t.Helper()
	before, err := tree(p.src)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		dst := filepath.Join(t.TempDir(), "out")
		setup(dst)
		code, out := child(t, n, p.args(dst, command...)...)
		if code != 0 && code != killedCode {
			t.Fatalf("killed at %d: exit code %d\n%s", n, code, out)
		}
		if code == 0 {
			if n < 15 {
				t.Errorf("only %d operations: is the hook set?", n)
			}
			t.Logf("killed at each of %d operations", n-1)
			return
		}
		after(dst, fmt.Sprintf("killed at %d", n))
		if now, err := tree(p.src); err != nil || !maps.Equal(now, before) {
			t.Fatalf("killed at %d: the source changed (%v)", n, err)
		}
	}
}

// TestKilledPart: whenever a part is killed, nothing is visible, and the same
// command goes on.
func TestKilledPart(t *testing.T) {
	p := makeParts(t)
	p.each(t, func(string) {}, []string{"--part", "1/2"}, func(dst, when string) {
		if _, err := os.Lstat(dst); err == nil {
			t.Fatalf("%s: the output is visible", when)
		}
		p.run(t, dst, "--part", "1/2")
		p.run(t, dst, "--part", "2/2")
		p.run(t, dst, "--finish")
		p.sealed(t, dst, when)
	})
}

// TestKilledFinish: whenever --finish is killed, the output is absent or whole,
// no part is lost, and the same command completes it, or finds it complete.
func TestKilledFinish(t *testing.T) {
	p := makeParts(t)
	setup := func(dst string) { p.run(t, dst, "--part", "1/1") }
	p.each(t, setup, []string{"--finish"}, func(dst, when string) {
		_, err := os.Lstat(dst)
		visible := err == nil
		if diff, err := treeDiff(p.whole, dst); visible && (diff != "" || err != nil) {
			t.Fatalf("%s: the output is there and not whole: %s, %v", when, diff, err)
		}
		if code, out := child(t, 0, p.args(dst, "--finish")...); code != 0 && !(visible && code == 2) {
			t.Fatalf("%s, second run: exit code %d\n%s", when, code, out)
		}
		p.sealed(t, dst, when)
	})
}

// TestPartsAtOnce: different parts in processes that begin at the same time, as
// a scheduler begins them, all get through; of one part twice, one may be
// refused.
func TestPartsAtOnce(t *testing.T) {
	p := makeParts(t)
	path, err := exec.LookPath("neuroseal")
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		dst := filepath.Join(t.TempDir(), "out")
		var running []*exec.Cmd
		var output []*strings.Builder
		for _, part := range []string{"1/3", "2/3", "1/3", "3/3"} {
			cmd, out := exec.Command(path, p.args(dst, "--part", part)...), new(strings.Builder)
			cmd.Stderr = out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			running, output = append(running, cmd), append(output, out)
		}
		refused := 0
		for i, cmd := range running {
			if err := cmd.Wait(); err == nil {
				continue
			}
			if refused++; cmd.ProcessState.ExitCode() != 2 || !strings.Contains(output[i].String(), "part 1/3: another process") {
				t.Fatalf("%v: %v\n%s", cmd.Args, cmd.ProcessState, output[i])
			}
		}
		if refused > 1 {
			t.Fatal("part 1/3 was refused to both")
		}
		p.run(t, dst, "--finish")
		p.sealed(t, dst, "at once")
	}
}
