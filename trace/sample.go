package trace

import (
	"context"
	"math"
	"regexp"
	"runtime"
	"slices"
	"sort"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// How much is read: rows of a matrix, columns of these, elements of a vector,
// matrices of a stack, and tensors of one role in all layers. Evidence grows
// with all of them, far beyond need; memory and time do not depend on the size
// of the checkpoint, but for the length of its rows.
const (
	sampleRows   = 384
	sampleCols   = 768
	sampleVector = 2048
	sampleStack  = 4
	sampleRole   = 64
	// sampleRun is how many neighbours are taken of many rows: formats that store
	// a matrix by columns read them at once.
	sampleRun = 8
)

// piece is a matrix that stands in a tensor: all of it, or one of a stack.
type piece struct {
	name  string
	shape []int // of the tensor, as plans have it
	role  string
	stack int // leading axes that number the matrices of a stack
	index int // of the matrix in the stack
}

// key names a piece.
func (p piece) key() string {
	k := p.name + ":" + strconv.Itoa(p.stack) + ":" + strconv.Itoa(p.index)
	for _, n := range p.shape {
		k += "," + strconv.Itoa(n)
	}
	return k
}

// extent returns the piece's first row, number of rows and their width, in rows
// of the tensor's last axis.
func (p piece) extent() (first, rows, width int) {
	rows, width = 1, p.shape[len(p.shape)-1]
	for _, n := range p.shape[p.stack : len(p.shape)-1] {
		rows *= n
	}
	return p.index * rows, rows, width
}

// places returns the rows, counted over all leading axes, and the columns that
// are looked at.
func (p piece) places() (rows, cols []int) {
	first, n, width := p.extent()
	most := sampleCols
	if n == 1 {
		most = sampleVector
	}
	cols = spread(width, most)
	if n < sampleRun*sampleRows {
		rows = spread(n, sampleRows)
	} else {
		for _, i := range spread(n/sampleRun, sampleRows/sampleRun) {
			for k := range sampleRun {
				rows = append(rows, i*sampleRun+k)
			}
		}
	}
	for i := range rows {
		rows[i] += first
	}
	return rows, cols
}

// bytes is how much is read of the piece, as fp32.
func (p piece) bytes() int64 {
	_, rows, width := p.extent()
	return 4 * int64(min(rows, sampleRows)) * int64(width)
}

// spread chooses at most most of n places, evenly.
func spread(n, most int) []int {
	k := min(n, most)
	out := make([]int, k)
	for i := range out {
		out[i] = i * n / k
	}
	return out
}

var numbers = regexp.MustCompile(`[0-9]+`)

// roleOf is a tensor's name without the numbers of its layer and expert.
func roleOf(name string) string { return numbers.ReplaceAllString(name, "*") }

// piecesOf splits a plan's tensor into matrices whose columns have one factor
// each; none, if it has no such.
func piecesOf(t *gauge.Tensor) []piece {
	rank := len(t.Shape)
	if rank == 0 || slices.Contains(t.Shape, 0) {
		return nil
	}
	p := piece{name: t.Name, shape: t.Shape, role: roleOf(t.Name)}
	for _, ax := range t.Terms {
		if k := len(ax.Axes); k == 0 || ax.Axes[k-1] != rank-1 {
			continue
		}
		for _, a := range ax.Axes[:len(ax.Axes)-1] {
			p.stack = max(p.stack, a+1)
		}
	}
	if p.stack > 0 && p.stack >= rank-1 {
		return nil // columns of their own in every row
	}
	count := 1
	for _, n := range t.Shape[:p.stack] {
		count *= n
	}
	var out []piece
	for _, i := range spread(count, sampleStack) {
		p.index = i
		out = append(out, p)
	}
	return out
}

// observation is what a piece's weights tell.
type observation struct {
	piece
	rows, cols []int
	// ratio compares with the original; plain looks at the weights alone.
	ratio, plain *fitted
}

// observations are those of all pieces, by key.
type observations map[string]*observation

// choose limits the pieces of each role, evenly, and leaves out what cannot be
// read. The choice depends on names only, not on any key.
func choose(all map[string]piece, leaked *weights) []piece {
	roles := map[string][]piece{}
	for _, p := range all {
		if _, ok := leaked.find(p.name, p.shape); ok {
			roles[p.role] = append(roles[p.role], p)
		}
	}
	var out []piece
	for _, list := range roles {
		sort.Slice(list, func(i, j int) bool { return list[i].key() < list[j].key() })
		for _, i := range spread(len(list), sampleRole) {
			out = append(out, list[i])
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].key() < out[j].key() })
	return out
}

// observe looks at pieces of a checkpoint, and compares them with the original
// if there is one.
func observe(ctx context.Context, list []piece, leaked, original *weights, done func(n int64)) (observations, error) {
	out := observations{}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, p := range list {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return fault.Wrap(fault.Interrupted, err, "")
			}
			o, err := p.observe(leaked, original)
			if err != nil {
				return err
			}
			mu.Lock()
			out[p.key()] = o
			mu.Unlock()
			done(p.bytes())
			return nil
		})
	}
	return out, g.Wait()
}

func (p piece) observe(leaked, original *weights) (*observation, error) {
	o := &observation{piece: p}
	o.rows, o.cols = p.places()
	x, err := o.read(leaked)
	if err != nil {
		return nil, err
	}
	nonzero := 0
	for _, v := range x {
		if v > math.MaxFloat32*-1 {
			nonzero++
		}
	}
	// The quantile lies among the numbers that are not zero, in the same place
	// for every row.
	plain := fit(x, len(o.cols), 1-float64(nonzero)/float64(len(x))/4, false)
	o.plain = &plain
	if original == nil {
		return o, nil
	}
	if _, ok := original.find(p.name, p.shape); !ok {
		return o, nil
	}
	y, err := o.read(original)
	if err != nil {
		return nil, err
	}
	for i, v := range y {
		x[i] -= v
		if v := float64(x[i]); math.IsInf(v, 0) { // a zero in either
			x[i] = float32(missing)
		}
	}
	ratio := fit(x, len(o.cols), 0.5, true)
	o.ratio = &ratio
	return o, nil
}

// read returns the base-2 logarithms of the sampled elements' magnitudes: minus
// infinity for zero, not a number for what is infinite or none.
func (o *observation) read(w *weights) ([]float32, error) {
	r, _ := w.find(o.name, o.shape)
	x, err := r.read(o.rows, o.cols)
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "reading %s", o.name)
	}
	for i, v := range x {
		x[i] = logOf(v)
	}
	return x, nil
}

// logOf is the base-2 logarithm of a number's magnitude.
func logOf(x float32) float32 {
	v := float64(x)
	if v-v != 0 {
		return float32(missing)
	}
	return float32(math.Log2(math.Abs(v)))
}
