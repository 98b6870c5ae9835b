package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/arena/informed"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// sealing is a way to seal a model.
type sealing struct {
	name, about string
	make        func(ctx context.Context, src, dst string) error
}

var key keys.SealKey

func lock(o neuroseal.LockOptions) func(context.Context, string, string) error {
	return func(ctx context.Context, src, dst string) error {
		o.Source, o.Output, o.Key = src, dst, key
		if err := os.MkdirAll(filepath.Dir(dst), 0o777); err != nil {
			return err
		}
		_, err := neuroseal.Lock(ctx, o)
		return err
	}
}

// seals are what the product makes.
var seals = []sealing{
	{"static100", "the original tool: v, up × 100, o, down ÷ 100", lock(neuroseal.LockOptions{Method: seal.Static, Scale: 100})},
	{"portable", "`--profile portable`", lock(neuroseal.LockOptions{Method: seal.Gauge, Profile: seal.Portable})},
	{"strong", "`--profile strong`", lock(neuroseal.LockOptions{Method: seal.Gauge, Profile: seal.Strong})},
	{"max", "`--profile max`", lock(neuroseal.LockOptions{Method: seal.Gauge, Profile: seal.Max})},
}

// effects take the seal of profile max apart, one effect at a time.
var effects = []sealing{
	{"offset and spread", "one offset per group (2^50 on value/output and up/down, 2^±30 on norms and query/key), ±8 per channel: the first shape of `max`", apart(func(wide bool, c, n int, rnd func(int) int) int {
		return offset(wide, rnd) + rnd(17) - 8
	})},
	{"even", "evenly over the whole range, per channel", apart(func(wide bool, _, _ int, rnd func(int) int) int {
		lo, hi := span(wide)
		return lo + rnd(hi-lo+1)
	})},
	{"one in 64 apart", "the middle of the range, one channel in 64 at either end", outlying(func(n int) int { return max(1, n/64) })},
	{"one apart", "the middle of the range, one channel at either end", outlying(func(int) int { return 1 })},
	{"max", "profile max: one apart, at another height in every layer, and the residual gauge", lock(neuroseal.LockOptions{Method: seal.Gauge, Profile: seal.Max})},
	{"max permuted", "profile max with `--permute`: channels, heads and experts change places, too", lock(neuroseal.LockOptions{Method: seal.Gauge, Profile: seal.Max, Permute: true})},
}

// outlying puts a few classes at either end and the others into the middle.
func outlying(few func(n int) int) func(context.Context, string, string) error {
	return apart(func(wide bool, c, n int, _ func(int) int) int {
		lo, hi := span(wide)
		switch {
		case c < few(n):
			return lo
		case c >= n-few(n) && n > 1:
			return hi
		}
		return (lo + hi) / 2
	})
}

// span is the range of profile max.
func span(wide bool) (lo, hi int) {
	if wide {
		return 0, 58
	}
	return -38, 38
}

// offset is a group's; the stream of its first class decides the sign.
func offset(wide bool, rnd func(int) int) int {
	if wide {
		return 50
	}
	return 30
}

// apart makes a seal from a rule for the exponent of class c of n; wide groups
// are value/output and up/down. The residual gauge stays away.
func apart(rule func(wide bool, c, n int, rnd func(int) int) int) func(context.Context, string, string) error {
	return func(ctx context.Context, src, dst string) error {
		m, err := informed.Load(ctx, src)
		if err != nil {
			return err
		}
		net, err := m.Build(arch.Options{Tokens: 1})
		if err != nil {
			return err
		}
		sol, err := gauge.Solve(net.Graph)
		if err != nil {
			return err
		}
		e := make([][]int16, len(sol.Groups))
		for g, group := range sol.Groups {
			s := key.Stream(group.ID)
			sign := 1 - 2*s.Intn(2)
			wide := group.Kind == gauge.VO || group.Kind == gauge.FFN
			order := shuffled(group.Classes, s.Intn)
			e[g] = make([]int16, group.Classes)
			for c := range e[g] {
				if group.Kind == gauge.Residual {
					continue
				}
				x := rule(wide, order[c], group.Classes, s.Intn)
				if !wide {
					x *= sign
				}
				e[g][c] = int16(x)
			}
		}
		for i := range sol.Tensors {
			if err := scale(m, &sol.Tensors[i], e); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(filepath.Dir(dst), 0o777); err != nil {
			return err
		}
		return m.Save(ctx, dst)
	}
}

func shuffled(n int, rnd func(int) int) []int {
	at := make([]int, n)
	for i := range at {
		at[i] = i
	}
	for i := range at {
		j := i + rnd(n-i)
		at[i], at[j] = at[j], at[i]
	}
	return at
}

// scale multiplies a tensor by the powers of two that its terms name.
func scale(m *informed.Model, t *gauge.Tensor, e [][]int16) error {
	x, ok := m.Tensor(t.Name)
	if !ok {
		return fmt.Errorf("no tensor %s", t.Name)
	}
	for i := range t.Terms {
		ax := &t.Terms[i]
		by := ax.Exponents(e)
		for j := range x.Data {
			at, rest := 0, j
			index := make([]int, len(t.Shape))
			for a := len(t.Shape) - 1; a >= 0; a-- {
				index[a], rest = rest%t.Shape[a], rest/t.Shape[a]
			}
			for _, a := range ax.Axes {
				at = at*t.Shape[a] + index[a]
			}
			x.Data[j] = float32(math.Ldexp(float64(x.Data[j]), by[at]))
		}
	}
	return nil
}

func save(path string, v any) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o666)
}
