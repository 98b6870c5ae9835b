package seal

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/keys"
)

// Shuffles draws the order of every permutation from the key: the unit in place
// i comes from place order[i]. Each depends on the key, its id and its size
// only. Specified in spec/derivation.md.
func Shuffles(list []gauge.Permutation, key keys.SealKey) [][]int32 {
	out := make([][]int32, len(list))
	for i, p := range list {
		out[i] = shuffle(p, key)
	}
	return out
}

func shuffle(p gauge.Permutation, key keys.SealKey) []int32 {
	s := key.Stream("permute\x00" + p.ID)
	order := make([]int32, p.Count)
	for i := range order {
		order[i] = int32(i)
	}
	for i := range order {
		j := i + s.Intn(len(order)-i)
		order[i], order[j] = order[j], order[i]
	}
	return order
}

// ValidatePermutations checks permutations that came from outside: every index
// in range, every size right, no tensor twice.
func ValidatePermutations(p *gauge.Permutations) error {
	total := 0
	ids := map[string]bool{}
	for _, x := range p.List {
		if x.Count < 1 || x.Count > maxClasses-total || ids[x.ID] {
			return fmt.Errorf("permutation %q of %d places is listed twice or out of range", x.ID, x.Count)
		}
		total += x.Count
		ids[x.ID] = true
	}
	stretch := func(s gauge.Stretch) (int, error) {
		n := 1
		for _, f := range s {
			if f.Count < 1 || f.Count > maxClasses/n || f.Perm < -1 || f.Perm >= len(p.List) || f.Perm >= 0 && p.List[f.Perm].Count != f.Count {
				return 0, fmt.Errorf("a factor of %d places in the order of permutation %d", f.Count, f.Perm)
			}
			n *= f.Count
		}
		return n, nil
	}
	seen := map[string]bool{}
	for _, t := range p.Tensors {
		last := -1
		if seen[t.Name] {
			return fmt.Errorf("tensor %q is permuted twice", t.Name)
		}
		seen[t.Name] = true
		for _, ax := range t.Axes {
			if ax.Axis <= last || ax.Axis >= len(t.Shape) {
				return fmt.Errorf("tensor %q: axis %d", t.Name, ax.Axis)
			}
			last = ax.Axis
			n := 0
			for _, s := range ax.Stretches {
				k, err := stretch(s)
				if err != nil {
					return fmt.Errorf("tensor %q: %w", t.Name, err)
				}
				n += k
			}
			if n != t.Shape[ax.Axis] {
				return fmt.Errorf("tensor %q: %d places on axis %d of %v", t.Name, n, ax.Axis, t.Shape)
			}
		}
	}
	seen = map[string]bool{}
	for _, e := range p.Exchanges {
		n, err := stretch(e.Places)
		if err != nil || n != len(e.Tensors) {
			return fmt.Errorf("an exchange of %d tensors has %d places: %v", len(e.Tensors), n, err)
		}
		for _, t := range e.Tensors {
			if seen[t] {
				return fmt.Errorf("tensor %q is exchanged twice", t)
			}
			seen[t] = true
		}
	}
	return nil
}

// Inverse turns an order around.
func Inverse(order []int32) []int32 {
	out := make([]int32, len(order))
	for i, from := range order {
		out[from] = int32(i)
	}
	return out
}

// Mover fills a tensor with the elements of another one of the same shape, or of
// itself, in another order. It implements the editor of a streaming rewrite:
// chunks may come in any order, each a run of whole elements, several at once;
// what they hold is replaced. It needs memory for one row of the last axis, or
// 512 KiB.
type Mover struct {
	Shape  []int
	Size   int       // bytes of an element
	Orders [][]int32 // per axis, where the elements come from; nil: they stay
	// Read reads bytes of the source from an offset on.
	Read func(p []byte, off int64) error
	// Before edits what was read, at its place in the source; After edits the
	// result, at its own. nil: nothing.
	Before, After checkpoint.Editor
}

// batch is how many bytes a Mover reads at once where it can.
const batch = 512 << 10

// Edit replaces the elements in buf, the first of which has index start.
func (m *Mover) Edit(start int64, buf []byte) error {
	width := 1
	var columns []int32
	if rank := len(m.Shape); rank > 0 {
		width, columns = m.Shape[rank-1], m.Orders[rank-1]
	}
	var scratch []byte
	runs := runsOf(columns)
	for at, rest := start, buf; len(rest) > 0; {
		row, col := int(at/int64(width)), int(at%int64(width))
		from := m.source(row)
		n := min(width-col, len(rest)/m.Size)
		if columns == nil {
			for next := row + 1; col+n == width*(next-row) && n < len(rest)/m.Size && m.source(next) == from+next-row; next++ {
				n += min(width, len(rest)/m.Size-n)
			}
			if err := m.read(rest[:n*m.Size], int64(from)*int64(width)+int64(col)); err != nil {
				return err
			}
		} else {
			// As many whole rows as follow each other in the source, too.
			rows := 1
			for (rows+1)*width*m.Size <= batch && col+n == rows*width && n < len(rest)/m.Size && m.source(row+rows) == from+rows {
				n += min(width, len(rest)/m.Size-n)
				rows++
			}
			if need := rows * width * m.Size; cap(scratch) < need {
				scratch = make([]byte, need)
			}
			scratch = scratch[:rows*width*m.Size]
			if err := m.read(scratch, int64(from)*int64(width)); err != nil {
				return err
			}
			m.gather(rest[:n*m.Size], scratch, col, width, runs)
		}
		rest, at = rest[n*m.Size:], at+int64(n)
	}
	if m.After != nil {
		return m.After.Edit(start, buf)
	}
	return nil
}

// read reads elements of the source from one on.
func (m *Mover) read(p []byte, element int64) error {
	if err := m.Read(p, element*int64(m.Size)); err != nil || m.Before == nil {
		return err
	}
	return m.Before.Edit(element, p)
}

// source turns the number of a row of the last axis into that of its source.
func (m *Mover) source(row int) int {
	out, step := 0, 1
	for a := len(m.Shape) - 2; a >= 0; a-- {
		i := row % m.Shape[a]
		row /= m.Shape[a]
		if o := m.Orders[a]; o != nil {
			i = int(o[i])
		}
		out += i * step
		step *= m.Shape[a]
	}
	return out
}

// stretchOf is a run of columns that stay together.
type stretchOf struct{ to, from, n int }

func runsOf(order []int32) []stretchOf {
	var out []stretchOf
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && order[j] == order[j-1]+1 {
			j++
		}
		out = append(out, stretchOf{i, int(order[i]), j - i})
		i = j
	}
	return out
}

// gather fills dst, which begins with column col of a row, from whole rows.
func (m *Mover) gather(dst, rows []byte, col, width int, runs []stretchOf) {
	for len(dst) > 0 {
		n := min(width-col, len(dst)/m.Size)
		i, _ := slices.BinarySearchFunc(runs, col, func(r stretchOf, c int) int { return r.to + r.n - 1 - c })
		for ; i < len(runs) && runs[i].to < col+n; i++ {
			r := runs[i]
			lo, hi := max(r.to, col), min(r.to+r.n, col+n)
			from := (r.from + lo - r.to) * m.Size
			copy(dst[(lo-col)*m.Size:(hi-col)*m.Size], rows[from:from+(hi-lo)*m.Size])
		}
		dst, rows, col = dst[n*m.Size:], rows[width*m.Size:], 0
	}
}
