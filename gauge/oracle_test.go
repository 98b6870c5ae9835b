package gauge_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// The rank of a larger network takes seconds.
const smallest = 800

var every = flag.Bool("every", false, "TestJacobian: networks of any size")

// more lists the families where the Jacobian leaves more directions than the
// solver, how many, and why; everywhere else the two agree.
var more = map[string]struct {
	dims int
	why  string
}{}

// specimen is a tiny model with its weights in float64.
type specimen struct {
	g       *graph.Graph
	sol     *gauge.Solution
	weights map[string][]float64
	vars    map[graph.ID][]axes // variables of every weight
	n       int                 // variables, epsilons included
	eps     map[string]int
	// redundant counts the directions that move rows against columns of the
	// same matrix and change nothing.
	redundant int
}

// axes is a block of variables of a weight: one per index of some of its axes.
type axes struct {
	first int
	of    []int32 // variable of every element
}

func load(t *testing.T, dir string) *specimen {
	t.Helper()
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	conf, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	s := &specimen{weights: map[string][]float64{}, vars: map[graph.ID][]axes{}, eps: map[string]int{}}
	shapes := map[string][]int{}
	for _, x := range ck.Tensors() {
		shapes[x.Name] = x.Shape
		b := make([]byte, x.Size)
		if err := ck.ReadAt(x, b, 0); err != nil {
			t.Fatal(err)
		}
		f := make([]float32, elements(x.Shape))
		dtype.ToFloat32(x.DType, f, b)
		for _, v := range f {
			s.weights[x.Name] = append(s.weights[x.Name], float64(v))
		}
	}
	m, err := arch.Build(conf, shapes, arch.Options{Tokens: 5})
	if err != nil {
		t.Fatal(err)
	}
	s.g = m.Graph
	for i := range s.g.Nodes {
		// What an epsilon of 1e-12 forbids is lost in float64's rounding.
		if n := &s.g.Nodes[i]; (n.Op == graph.OpRMSNorm || n.Op == graph.OpLayerNorm) && n.Scalar != 0 {
			n.Scalar = max(n.Scalar, 1e-2)
		}
	}
	if s.sol, err = gauge.Solve(s.g); err != nil {
		t.Fatal(err)
	}
	s.variables()
	return s
}

// variables gives every matrix a variable per row and per column, every other
// weight one per element, and every epsilon one.
func (s *specimen) variables() {
	contracted := matrices(s.g)
	for _, e := range s.sol.Eps {
		s.eps[e.Key] = s.n
		s.n++
	}
	for i := range s.g.Nodes {
		n := &s.g.Nodes[i]
		if n.Op != graph.OpWeight {
			continue
		}
		id, r := graph.ID(i), len(n.Shape)
		groups := groupsOf(s.g, id)
		switch {
		case groups > 0: // rows are filters, columns their channels by group
			ones := make([]int, r-1)
			for a := range ones {
				ones[a] = 1
			}
			s.block(id, broadcast(append([]int{n.Shape[0]}, ones...), n.Shape))
			if n.Shape[1] == 1 {
				continue
			}
			cols := broadcast(append([]int{1, n.Shape[1]}, ones[1:]...), n.Shape)
			for e := range cols {
				cols[e] += int32(e * groups / len(cols) * n.Shape[1])
			}
			s.block(id, cols)
			s.redundant += groups
		case r < 2 || !contracted[id]:
			s.block(id, broadcast(n.Shape, n.Shape))
		default:
			for _, without := range []int{r - 1, r - 2} {
				reduced := slices.Clone(n.Shape)
				reduced[without] = 1
				s.block(id, broadcast(reduced, n.Shape))
			}
			s.redundant += elements(n.Shape[:r-2])
		}
	}
}

// block adds the variables that a weight's elements are said to have.
func (s *specimen) block(id graph.ID, of []int32) {
	s.vars[id] = append(s.vars[id], axes{s.n, of})
	s.n += int(slices.Max(of)) + 1
}

// groupsOf returns the groups of the convolution whose weight this is, or 0.
func groupsOf(g *graph.Graph, id graph.ID) int {
	for _, n := range g.Nodes {
		if n.Op == graph.OpConv && n.In[1] == id {
			return n.Conv.Groups
		}
	}
	return 0
}

// matrices finds the weights that are contracted, perhaps after operations on
// weights alone.
func matrices(g *graph.Graph) map[graph.ID]bool {
	alone := make([]bool, len(g.Nodes))
	for i, n := range g.Nodes {
		alone[i] = n.Op != graph.OpTokens && n.Op != graph.OpInput
		for k, in := range n.In {
			alone[i] = alone[i] && (alone[in] || n.Op == graph.OpIndex && k == 1)
		}
	}
	out := map[graph.ID]bool{}
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		switch n := &g.Nodes[i]; {
		case n.Op == graph.OpEmbedding:
			out[n.In[0]] = true
		case n.Op == graph.OpLinear, n.Op == graph.OpConv:
			out[n.In[1]] = true
		case n.Op == graph.OpMatMul:
			out[n.In[0]], out[n.In[1]] = true, true
		case alone[i] && out[graph.ID(i)]:
			for _, in := range n.In {
				out[in] = true
			}
		}
	}
	return out
}

// sample runs the network on other tokens and inputs, and with other weights:
// what is wanted are directions that do not depend on the weights, as rescaling
// does not, while a bias can make up for any change of another before it.
func (s *specimen) sample(round int, slots map[graph.ID][]int32) *tape {
	r := rand.New(rand.NewPCG(uint64(round), 5))
	limit := vocabularyOf(s.g)
	t := &tape{g: s.g, eps: s.eps, slots: slots}
	t.inputs = func(n *graph.Node) []float64 {
		out := make([]float64, elements(n.Shape))
		for i := range out {
			switch {
			case n.Op == graph.OpConst:
				out[i] = float64(n.Data[i])
			case n.Op == graph.OpTokens:
				out[i] = float64((round*len(out) + i*7) % limit)
			case n.Int:
				out[i] = float64((round*len(out) + i*5) % n.K)
			default:
				out[i] = r.NormFloat64()
			}
		}
		if n.Op == graph.OpWeight {
			for i, w := range s.weights[n.Name] {
				out[i] = w * math.Exp(0.3*r.NormFloat64())
			}
		}
		return out
	}
	t.run()
	return t
}

// vocabularyOf returns the height of the table that tokens index.
func vocabularyOf(g *graph.Graph) int {
	for _, n := range g.Nodes {
		if n.Op != graph.OpEmbedding {
			continue
		}
		ids := &g.Nodes[n.In[1]]
		for ids.Op == graph.OpReshape {
			ids = &g.Nodes[ids.In[0]]
		}
		if ids.Op == graph.OpTokens {
			return g.Shape(n.In[0])[0]
		}
	}
	return vocabulary
}

// directions are the solver's classes as changes of the variables, and those
// that are redundant.
func (s *specimen) directions(t *testing.T) [][]float64 {
	var out [][]float64
	first := make([]int, len(s.sol.Groups))
	for g, gr := range s.sol.Groups {
		first[g] = len(out)
		for range gr.Classes {
			if gr.Kind != gauge.Residual || g == s.sol.Residual {
				out = append(out, make([]float64, s.n))
			}
		}
	}
	for _, x := range s.sol.Tensors {
		id := s.g.Weights()[x.Name]
		moved := map[int][]float64{} // per class
		for _, ax := range x.Terms {
			reduced := make([]int, len(x.Shape))
			for a := range reduced {
				if reduced[a] = 1; slices.Contains(ax.Axes, a) {
					reduced[a] = x.Shape[a]
				}
			}
			src := broadcast(reduced, x.Shape)
			for _, sg := range ax.Segments {
				if s.sol.Groups[sg.Group].Kind == gauge.Residual && sg.Group != s.sol.Residual {
					continue
				}
				for e, k := range src {
					if i := int(k) - sg.Start; i >= 0 && i < sg.Count {
						c := first[sg.Group] + sg.First + i/sg.Div
						if moved[c] == nil {
							moved[c] = make([]float64, len(src))
						}
						moved[c][e] += float64(sg.Coef)
					}
				}
			}
		}
		for c, by := range moved {
			s.lift(t, x.Name, id, by, out[c])
		}
	}
	for _, e := range s.sol.Eps {
		out[first[s.sol.Residual]][s.eps[e.Key]] = float64(e.Coef)
	}
	for _, blocks := range s.vars {
		if len(blocks) == 2 {
			out = append(out, opposite(blocks, s.n)...)
		}
	}
	return out
}

// opposite returns, for every matrix of a weight, its rows against its columns.
func opposite(blocks []axes, n int) [][]float64 {
	part := map[int32]int{} // of each column, and through it of each row
	var out [][]float64
	owner := map[int32]int{}
	for e, r := range blocks[0].of {
		c := blocks[1].of[e]
		k, ok := owner[r]
		if !ok {
			if k, ok = part[c]; !ok {
				k = len(out)
				out = append(out, make([]float64, n))
			}
		}
		owner[r], part[c] = k, k
		out[k][blocks[0].first+int(r)], out[k][blocks[1].first+int(c)] = 1, -1
	}
	return out
}

// lift writes the factors of a weight's elements as its variables.
func (s *specimen) lift(t *testing.T, name string, id graph.ID, by, out []float64) {
	blocks := s.vars[id]
	known := map[int]bool{}
	for e, v := range by {
		a := blocks[0].first + int(blocks[0].of[e])
		if len(blocks) == 1 {
			out[a] = v
			continue
		}
		b := blocks[1].first + int(blocks[1].of[e])
		switch {
		case known[a] && known[b]:
			if math.Abs(out[a]+out[b]-v) > 1e-9 {
				t.Fatalf("%s: its factors are not one per row times one per column", name)
			}
		case known[a]:
			out[b] = v - out[a]
		default:
			out[a] = v - out[b]
		}
		known[a], known[b] = true, true
	}
}

// jacobian goes through the rows of the Jacobian of all outputs by the
// variables, a few at a time, until use is satisfied.
func (s *specimen) jacobian(t *tape, use func(row []float64) bool) {
	const width = 32
	for _, o := range s.g.Outputs {
		for lo := 0; lo < len(t.x[o]); lo += width {
			var at []int
			for i := lo; i < min(lo+width, len(t.x[o])); i++ {
				at = append(at, i)
			}
			bars, eps := t.trace(o, at, s.n)
			for l := range at {
				row := make([]float64, s.n)
				for k := range row {
					row[k] = eps[k*len(at)+l]
				}
				for id, bar := range bars {
					w := t.x[id]
					for _, b := range s.vars[id] {
						for e, v := range b.of {
							row[b.first+int(v)] += bar[e*len(at)+l] * w[e]
						}
					}
				}
				if !use(row) {
					return
				}
			}
		}
	}
}

// rank is that of a matrix, by elimination with complete pivoting after rows and
// columns have been brought to one size; gap is by how much the first pivot
// that counts as zero is smaller than the last that does not.
func rank(m [][]float64, want int) (r int, gap float64) {
	equalise(m)
	top, at := make([]float64, len(m)), make([]int, len(m)) // largest of each row
	for i, row := range m {
		top[i], at[i] = peak(row)
	}
	last := 1.0
	for ; r < len(m); r++ {
		p := choose(m[r:], top[r:], at[r:], 1e-2*last) + r
		// The drop is where it is expected, or at what only rounding leaves.
		if size := top[p]; r == want && size < 1e-4*last || size < 1e-13 {
			return r, size / last
		}
		last = top[p]
		m[r], m[p], top[p], at[r], at[p] = m[p], m[r], top[r], at[p], at[r]
		col, end := at[r], len(m[r])-1
		for i := r; i < len(m); i++ {
			m[i][col], m[i][end] = m[i][end], m[i][col]
		}
		pivot := m[r][:end]
		for i := r + 1; i < len(m); i++ {
			row := m[i][:end]
			if c := m[i][end] / m[r][end]; c != 0 {
				axpy(row, pivot, -c)
			}
			m[i] = row
		}
	}
	return r, 1
}

// choose returns the row with the largest element, or one that is not much
// smaller: what is known of each row's largest may be of some steps ago.
func choose(m [][]float64, top []float64, at []int, enough float64) int {
	for range 8 {
		p := 0
		for i := range m {
			if top[i] > top[p] {
				p = i
			}
		}
		before := top[p]
		if top[p], at[p] = peak(m[p]); top[p] >= 0.5*before && top[p] > enough {
			return p
		}
	}
	p := 0
	for i := range m {
		if top[i], at[i] = peak(m[i]); top[i] > top[p] {
			p = i
		}
	}
	return p
}

func axpy(dst, x []float64, c float64) {
	dst = dst[:len(x)]
	for j, v := range x {
		dst[j] += c * v
	}
}

// peak returns the largest element's size and place.
func peak(row []float64) (size float64, at int) {
	for j, v := range row {
		if v = math.Abs(v); v > size {
			size, at = v, j
		}
	}
	return size, at
}

// equalise scales columns, then rows, to a largest element of 1.
func equalise(m [][]float64) {
	if len(m) == 0 {
		return
	}
	size := make([]float64, len(m[0]))
	for _, row := range m {
		for j, v := range row {
			size[j] = max(size[j], math.Abs(v))
		}
	}
	for _, row := range m {
		for j := range row {
			if size[j] > 0 {
				row[j] /= size[j]
			}
		}
		if s := largest(row); s > 0 {
			for j := range row {
				row[j] /= s
			}
		}
	}
}

func largest(x []float64) float64 {
	m := 0.0
	for _, v := range x {
		m = max(m, math.Abs(v))
	}
	return m
}

// TestJacobian: for every family, the directions in which rows, columns,
// elements and epsilons can be rescaled without any change of the outputs, to
// first order and in float64, are those of the solver and no others.
func TestJacobian(t *testing.T) {
	dirs, err := filepath.Glob("../arch/testdata/*/model.safetensors")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	done := map[string]bool{}
	graphs := map[uint64]string{}
	for _, d := range dirs {
		dir := filepath.Dir(d)
		name := filepath.Base(dir)
		kind := modelType(t, dir)
		if done[kind] {
			continue
		}
		done[kind] = true
		t.Run(name, func(t *testing.T) {
			s := load(t, dir)
			h := fingerprint(s.g)
			if same, ok := graphs[h]; ok {
				t.Skipf("the same network as %s", same)
			}
			graphs[h] = name
			if s.n > limit() && !*every {
				t.Skipf("%d variables: with -every only", s.n)
			}
			t.Parallel()
			s.judge(t, name)
		})
	}
}

// limit is the number of variables up to which a network is judged by default.
func limit() int {
	if testing.Short() {
		return smallest / 2
	}
	return smallest
}

func modelType(t *testing.T, dir string) string {
	conf, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		ModelType string `json:"model_type"`
	}
	if err := json.Unmarshal(conf, &c); err != nil {
		t.Fatal(err)
	}
	return c.ModelType
}

// fingerprint tells networks apart by their operations and shapes.
func fingerprint(g *graph.Graph) uint64 {
	h := fnv.New64a()
	for _, n := range g.Nodes {
		fmt.Fprint(h, n.Op, n.Shape, n.In, n.Perm, n.Axis, n.Start, n.End, n.EpsKey != "")
	}
	return h.Sum64()
}

// judge compares the rank of the Jacobian with what the solver's directions
// leave to it. Variables that no output of any sample depends on, rows that were
// not looked up or behind a ReLU that is never active, are left out.
func (s *specimen) judge(t *testing.T, name string) {
	dirs := s.directions(t)
	mixed := make([]float64, s.n)
	r := rand.New(rand.NewPCG(1, 2))
	for _, d := range dirs {
		c := r.NormFloat64()
		for k, v := range d {
			mixed[k] += c * v
		}
	}
	var rows [][]float64
	seen := make([]bool, s.n)
	slots := map[graph.ID][]int32{}
	slip := 0.0
	collect := func(round, enough int) {
		s.jacobian(s.sample(round, slots), func(row []float64) bool {
			size := largest(row)
			if size == 0 {
				return true
			}
			sum := 0.0
			for k, v := range row {
				seen[k] = seen[k] || v != 0
				sum += v * mixed[k]
			}
			slip = max(slip, math.Abs(sum)/size)
			rows = append(rows, row)
			return len(rows) < enough
		})
	}
	found, gap, want := 0, 0.0, s.n
	round := 0
	for _, more := range []float64{1.15, 1.6, 2.5} {
		enough := int(more*float64(s.n-len(dirs))) + 16
		for limit := round + enough; len(rows) < enough && round < limit; round++ {
			collect(round, enough)
		}
		want = s.expected(dirs, seen)
		if found, gap = rank(clones(rows), want); found >= want {
			break
		}
	}
	t.Logf("%d variables, %d never seen, rank %d of %d, gap %.1e, slip %.1e, %d free dimensions", s.n, unseen(seen), found, want, gap, slip, s.sol.FreeDims)
	if !(slip < 1e-9) {
		t.Errorf("the solver's directions change an output by %g of what others do", slip)
	}
	if extra := want - found; extra != more[name].dims {
		t.Errorf("%d directions more than the solver's %d, want %d", extra, s.sol.FreeDims, more[name].dims)
	}
}

func clones(rows [][]float64) [][]float64 {
	out := make([][]float64, len(rows))
	for i, r := range rows {
		out[i] = slices.Clone(r)
	}
	return out
}

// expected is what the Jacobian's rank is if there are no directions but these.
func (s *specimen) expected(dirs [][]float64, seen []bool) int {
	null := clones(dirs)
	for _, d := range null {
		for k := range d {
			if !seen[k] {
				d[k] = 0
			}
		}
	}
	r, _ := rank(null, -1)
	return s.n - unseen(seen) - r
}

func unseen(seen []bool) (n int) {
	for _, b := range seen {
		if !b {
			n++
		}
	}
	return n
}
