package fold

import (
	"math"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
)

func floats(shape []int, v ...float64) *Tensor { return &Tensor{Kind: Float, Shape: shape, F: v} }

func ints(shape []int, v ...int64) *Tensor { return &Tensor{Kind: Int, Shape: shape, I: v} }

func must(t *testing.T) func(*Tensor, error) *Tensor {
	return func(x *Tensor, err error) *Tensor {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
}

// TestOperations compares with what numpy gives.
func TestOperations(t *testing.T) {
	ok := must(t)
	six := ints([]int{2, 3}, 0, 1, 2, 3, 4, 5)
	for name, c := range map[string]struct{ got, want *Tensor }{
		"truncating":  {ok(Binary(graph.OpDiv, Ints(-7, 7), Ints(2))), Ints(-3, 3)},
		"promotion":   {ok(Binary(graph.OpAdd, Ints(1, 2), floats([]int{1}, 0.5))), floats([]int{2}, 1.5, 2.5)},
		"rounding":    {ok(Binary(graph.OpAdd, floats(nil, 1), floats(nil, 1e-9))), floats(nil, 1)},
		"broadcast":   {ok(Binary(graph.OpMul, ints([]int{2, 1}, 1, 10), Ints(1, 2))), ints([]int{2, 2}, 1, 2, 10, 20)},
		"less":        {ok(Binary(graph.OpLess, Ints(1, 3), Ints(2, 2))), &Tensor{Kind: Bool, Shape: []int{2}, I: []int64{1, 0}}},
		"where":       {ok(Where(&Tensor{Kind: Bool, Shape: []int{2}, I: []int64{1, 0}}, Ints(1, 2), Ints(3, 4))), Ints(1, 4)},
		"transpose":   {ok(six.Transpose(1, 0)), ints([]int{3, 2}, 0, 3, 1, 4, 2, 5)},
		"slice":       {ok(six.Slice(1, 2, -1, 2)), ints([]int{2, 2}, 2, 1, 5, 4)},
		"index":       {ok(six.Index(ints([]int{1, 2}, 1, 0), 0)), ints([]int{1, 2, 3}, 3, 4, 5, 0, 1, 2)},
		"gather":      {ok(six.Gather(ints([]int{2, 1}, 2, 0), 1)), ints([]int{2, 1}, 2, 3)},
		"concat":      {ok(Concat(1, six, ints([]int{2, 1}, 7, 8))), ints([]int{2, 4}, 0, 1, 2, 7, 3, 4, 5, 8)},
		"nothing":     {ok(Concat(0, Ints(), Ints(1))), Ints(1)},
		"pad":         {ok(Ints(1).Pad(0, 1, 2, 9)), Ints(9, 1, 9, 9)},
		"expand":      {ok(Ints(1, 2).Expand(2, 2)), ints([]int{2, 2}, 1, 2, 1, 2)},
		"sum":         {ok(Reduce(graph.OpSum, six)), ints([]int{2, 1}, 3, 12)},
		"argmax":      {ok(Reduce(graph.OpArgMax, ints([]int{1, 3}, 1, 5, 5))), ints([]int{1, 1}, 1)},
		"cumsum":      {ok(CumSum(six)), ints([]int{2, 3}, 0, 1, 3, 3, 7, 12)},
		"range":       {ok(Range(Int, 5, 0, -2)), Ints(5, 3, 1)},
		"empty range": {ok(Range(Int, 5, 0, 2)), Ints()},
		"nonzero":     {NonZero(six), ints([]int{2, 5}, 0, 0, 1, 1, 1, 1, 2, 0, 1, 2)},
		"product":     {ok(MatMul(six, ints([]int{3, 1}, 1, 1, 2))), floats([]int{2, 1}, 5, 17)},
		"convert":     {floats([]int{3}, -1.7, 1.7, 0).Convert(Int), Ints(-1, 1, 0)},
	} {
		if c.got.Kind != c.want.Kind || !slices.Equal(c.got.Shape, c.want.Shape) || !slices.Equal(c.got.I, c.want.I) || !slices.Equal(c.got.F, c.want.F) {
			t.Errorf("%s: %+v, want %+v", name, c.got, c.want)
		}
	}
}

// TestRefused: what a few bytes could ask for without bound, and what makes no sense.
func TestRefused(t *testing.T) {
	for name, err := range map[string]error{
		"huge":     second(New(Int, 1<<20, 1<<20)),
		"negative": second(New(Int, -1)),
		"expand":   second(Ints(1).Expand(1 << 40)),
		"range":    second(Range(Int, 0, 1e18, 1)),
		"step":     second(Range(Int, 0, 1, 0)),
		"nan":      second(Range(Float, 0, math.NaN(), 1)),
		"index":    second(Ints(1, 2).Index(Ints(2), 0)),
		"division": second(Binary(graph.OpDiv, Ints(1), Ints(0))),
		"shapes":   second(Binary(graph.OpAdd, Ints(1, 2), Ints(1, 2, 3))),
		"reshape":  second(Ints(1, 2).Reshape(3)),
		"perm":     second(ints([]int{1, 2}, 1, 2).Transpose(0, 0)),
		"product":  second(MatMul(ints([]int{1, 2}, 1, 2), ints([]int{1, 2}, 1, 2))),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second(_ *Tensor, err error) error { return err }
