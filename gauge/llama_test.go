package gauge

import (
	"fmt"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
)

func TestSmoke(t *testing.T) {
	b := graph.NewBuilder(3)
	H, nh, kv, hd, ff, V := 16, 4, 2, 4, 24, 29
	x := b.Embedding(b.Weight("embed.weight", V, H), b.TokenIDs())
	norm := func(x graph.ID, n string) graph.ID {
		return b.Mul(b.RMSNorm(x, 1e-5, "rms_norm_eps"), b.Weight(n, H))
	}
	lin := func(x graph.ID, n string, o, i int) graph.ID {
		return b.Add(b.Linear(x, b.Weight(n+".weight", o, i)), b.Weight(n+".bias", o))
	}
	cosT := b.Const(make([]float32, 3*hd), 3, hd)
	rope := func(q graph.ID, n int) graph.ID {
		q = b.Transpose(b.Reshape(q, 3, n, hd), 1, 0, 2)
		rot := b.Concat(2, b.Apply(graph.OpNeg, b.Slice(q, 2, hd/2, hd)), b.Slice(q, 2, 0, hd/2))
		return b.Add(b.Mul(q, cosT), b.Mul(rot, cosT))
	}
	rep := func(k graph.ID) graph.ID {
		return b.Reshape(b.Expand(b.Reshape(k, kv, 1, 3, hd), kv, nh/kv, 3, hd), nh, 3, hd)
	}
	for l := range 2 {
		p := fmt.Sprintf("l%d.", l)
		h := norm(x, p+"in_norm.weight")
		q := rope(lin(h, p+"q", nh*hd, H), nh)
		k := rep(rope(lin(h, p+"k", kv*hd, H), kv))
		v := rep(b.Transpose(b.Reshape(lin(h, p+"v", kv*hd, H), 3, kv, hd), 1, 0, 2))
		s := b.Apply(graph.OpSoftmax, b.MatMul(q, b.Transpose(k, 0, 2, 1)))
		a := b.Reshape(b.Transpose(b.MatMul(s, v), 1, 0, 2), 3, nh*hd)
		x = b.Add(x, lin(a, p+"o", H, nh*hd))
		h = norm(x, p+"post_norm.weight")
		x = b.Add(x, lin(b.Mul(b.Apply(graph.OpSiLU, lin(h, p+"gate", ff, H)), lin(h, p+"up", ff, H)), p+"down", H, ff))
	}
	g, err := b.Finish(b.Linear(norm(x, "norm.weight"), b.Weight("lm_head.weight", V, H)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Solve(g)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(s.FreeDims, s.Residual, s.Eps, s.Holes)
	for _, g := range s.Groups {
		fmt.Printf("%+v\n", g)
	}
	for _, g := range s.Tensors {
		fmt.Printf("%+v\n", g)
	}
}
