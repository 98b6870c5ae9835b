package trace

import (
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// hubWeights are a GGUF's weights by the names that plans have for them.
type hubWeights struct {
	whole map[string]arch.GGUFWeight
	short map[string]string // whole names, by what short makes of them; "": several
}

func hubWeightsOf(list map[string]arch.GGUFWeight) *hubWeights {
	h := &hubWeights{whole: list, short: map[string]string{}}
	for name := range list {
		s := short(name)
		if _, twice := h.short[s]; twice {
			name = ""
		}
		h.short[s] = name
	}
	return h
}

// weight finds a weight of a plan. A name that belongs to another weight does
// no harm: whatever is looked at, no key that was not used is likely to fit.
func (h *hubWeights) weight(name string) (arch.GGUFWeight, bool) {
	if h == nil {
		return arch.GGUFWeight{}, false
	}
	w, ok := h.whole[name]
	if !ok {
		w, ok = h.whole[h.short[short(name)]]
	}
	return w, ok
}

// short leaves out what a model's class puts before the names of its network's
// weights: bert.encoder.layer.0.output and encoder.layer.0.output are one.
func short(name string) string {
	parts := strings.Split(name, ".")
	from := len(parts) - 2
	if i := slices.IndexFunc(parts, isNumber); i > 0 {
		from = i - 1
	}
	return strings.Join(parts[max(from, 0):], ".")
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// reaches reports whether a row stands where it is said to.
func (r reader) reaches(i int) bool {
	at := r.row(i)
	t, ok := r.w.ck.Tensor(at.Tensor)
	if !ok || !t.Scalable() || len(t.Shape) == 0 {
		return false
	}
	width := t.Shape[len(t.Shape)-1]
	if !whole(t, width) {
		return false
	}
	rows := elements(t.Shape[:len(t.Shape)-1])
	if at.Column >= 0 {
		return at.Column < width && at.Row+r.width <= rows
	}
	return width == r.width && at.Row < rows
}

// gather reads a GGUF's rows. Those that run down columns of the same stored
// rows are read together.
func (r reader) gather(rows, cols []int) ([]float32, error) {
	out := make([]float32, len(rows)*len(cols))
	for k := 0; k < len(rows); {
		at := r.row(rows[k])
		t, ok := r.w.ck.Tensor(at.Tensor)
		if !ok || !r.reaches(rows[k]) {
			return nil, r.beyond(at)
		}
		n, err := 1, error(nil)
		if at.Column < 0 {
			err = r.along(t, at.Row, cols, out[k*len(cols):])
		} else {
			columns := r.together(rows[k:])
			if slices.Max(columns) >= t.Shape[len(t.Shape)-1] {
				return nil, r.beyond(at)
			}
			n, err = len(columns), r.down(t, at.Row, columns, cols, out[k*len(cols):])
		}
		if err != nil {
			return nil, err
		}
		k += n
	}
	return out, nil
}

// beyond is the error for metadata that tell of larger tensors than there are.
func (r reader) beyond(at arch.GGUFRow) error {
	return fault.New(fault.Mismatch, "%s: tensor %s is smaller than the metadata say", r.w.path, at.Tensor).
		WithHint("the file is damaged, or was put together from others")
}

// along picks elements of a stored row.
func (r reader) along(t checkpoint.Tensor, row int, cols []int, out []float32) error {
	buf := make([]float32, t.Shape[len(t.Shape)-1])
	if err := r.w.stored(t, int64(row)*int64(len(buf)), buf); err != nil {
		return err
	}
	pick(out[:0], buf, cols)
	return nil
}

// down picks elements of stored columns, from a row on.
func (r reader) down(t checkpoint.Tensor, row int, columns, cols []int, out []float32) error {
	buf := make([]float32, t.Shape[len(t.Shape)-1])
	for j, c := range cols {
		if err := r.w.stored(t, int64(row+c)*int64(len(buf)), buf); err != nil {
			return err
		}
		for i, column := range columns {
			out[i*len(cols)+j] = buf[column]
		}
	}
	return nil
}

// together returns the columns of the rows that run down the same stored rows
// as the first.
func (r reader) together(rows []int) (columns []int) {
	first := r.row(rows[0])
	for _, i := range rows {
		at := r.row(i)
		if at.Tensor != first.Tensor || at.Row != first.Row || at.Column < 0 {
			break
		}
		columns = append(columns, at.Column)
	}
	return columns
}
