package neuroseal

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"strconv"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/seal"
)

// exact is a float64 whose JSON gives back the same value, infinities and NaN
// included.
type exact float64

func (x exact) MarshalText() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(x), 'g', -1, 64), nil
}

func (x *exact) UnmarshalText(b []byte) error {
	v, err := strconv.ParseFloat(string(b), 64)
	*x = exact(v)
	return err
}

// measuredShard holds the statistics of a shard.
type measuredShard struct {
	Schema  int              `json:"schema"`
	Source  stamp            `json:"source"`
	Tensors []measuredTensor `json:"tensors"` // in the checkpoint's order
}

// measuredTensor holds what range analysis knows of one tensor.
type measuredTensor struct {
	Name       string `json:"name"`
	CRC        string `json:"crc32c"` // of the original's bytes
	Max        int    `json:"max"`
	Min        int    `json:"min"`
	Subnormal  bool   `json:"subnormal"`
	SumSq      exact  `json:"sum_sq"`
	MaxRow     exact  `json:"max_row_sum_sq"`
	Rows       int    `json:"rows"`
	LogRowMean exact  `json:"log_row_mean"`
	LogRowM2   exact  `json:"log_row_m2"`
	N          int64  `json:"n"`
	Zero       int64  `json:"zero"`
	NonFinite  int64  `json:"non_finite"`
	Normal16   *int   `json:"normal16,omitempty"`
	// Room is that of a tensor in blocks, from the lowest exponent to the highest.
	Room *[2]int `json:"room,omitempty"`
}

func (t *measuredTensor) set(s *dtype.Stats) {
	t.Max, t.Min, t.Subnormal, t.SumSq, t.MaxRow = s.Max, s.Min, s.Subnormal, exact(s.SumSq), exact(s.MaxRowSumSq)
	t.Rows, t.LogRowMean, t.LogRowM2 = s.Rows, exact(s.LogRowMean), exact(s.LogRowM2)
	t.N, t.Zero, t.NonFinite = s.N, s.Zero, s.NonFinite
}

func (t *measuredTensor) stats() *dtype.Stats {
	return &dtype.Stats{
		Max: t.Max, Min: t.Min, Subnormal: t.Subnormal, SumSq: float64(t.SumSq), MaxRowSumSq: float64(t.MaxRow),
		Rows: t.Rows, LogRowMean: float64(t.LogRowMean), LogRowM2: float64(t.LogRowM2),
		N: t.N, Zero: t.Zero, NonFinite: t.NonFinite,
	}
}

// sharedMeasure measures the weights together with the other parts: what one
// has measured, the others read from the folder. Nobody waits for anybody; what
// is not there yet is measured.
type sharedMeasure struct {
	l      *locker
	f      *partsFolder
	order  []int                     // shards, in the order in which to measure
	shards map[string]*measuredShard // by path; after scan
}

func (s *sharedMeasure) scan(ctx context.Context, p Progress) (*measured, error) {
	p.Stage("reading weights", s.l.m.scanBytes())
	s.shards = map[string]*measuredShard{}
	out := newMeasured()
	for _, i := range s.order {
		m, err := s.shard(ctx, i, p)
		if err != nil {
			return nil, err
		}
		s.shards[s.l.m.ck.Shards()[i].Path] = m
		for k := range m.Tensors {
			t := &m.Tensors[k]
			out.stats[t.Name] = t.stats()
			if t.Normal16 != nil {
				out.normal16[t.Name] = *t.Normal16
			}
			if t.Room != nil {
				out.room[t.Name] = seal.Room{Lo: t.Room[0], Hi: t.Room[1]}
			}
		}
	}
	return out, nil
}

// shard returns the statistics of a shard, from the folder if they are there.
func (s *sharedMeasure) shard(ctx context.Context, i int, p Progress) (*measuredShard, error) {
	sh := s.l.m.ck.Shards()[i]
	at, err := s.l.stamp(sh)
	if err != nil {
		return nil, err
	}
	path := s.f.path(measuredFolder, sh.Path+".json")
	if m := s.read(path, i, at); m != nil {
		for _, t := range s.tensors(i) {
			p.Add(t.Size)
		}
		return m, nil
	}
	m, err := s.measure(ctx, i, at, p)
	if err != nil {
		return nil, err
	}
	return s.keep(path, i, at, m)
}

// keep writes the statistics of a shard for the other parts, and returns those
// that count.
func (s *sharedMeasure) keep(path string, i int, at stamp, m *measuredShard) (*measuredShard, error) {
	// Where another part was faster, its record counts: all parts shall plan
	// from the same figures. One that cannot be written costs time only.
	if err := writeRecord(path, m, exists(path)); fault.KindOf(err) == fault.NoSpace {
		return nil, err
	}
	if first := s.read(path, i, at); first != nil {
		return first, nil
	}
	return m, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// tensors lists the tensors of a shard that have statistics.
func (s *sharedMeasure) tensors(shard int) (out []checkpoint.Tensor) {
	for _, t := range s.l.m.ck.Tensors() {
		if t.Shard == shard && measurable(t) {
			out = append(out, t)
		}
	}
	return out
}

// read returns nil unless the record fits the shard as it is.
func (s *sharedMeasure) read(path string, shard int, at stamp) *measuredShard {
	m := new(measuredShard)
	want := s.tensors(shard)
	if readRecord(path, m) != nil || m.Schema != partsSchema || m.Source != at || len(m.Tensors) != len(want) {
		return nil
	}
	for i, t := range m.Tensors {
		if t.Name != want[i].Name || !t.covers(want[i]) {
			return nil
		}
	}
	return m
}

// covers reports whether a record is of all of a tensor's elements. Of blocks,
// it is their scales that all count.
func (t *measuredTensor) covers(of checkpoint.Tensor) bool {
	if of.Format != nil {
		return t.Room != nil && t.Room[0] <= 0 && t.Room[1] >= 0 && t.N <= of.Elements()
	}
	return t.N == of.Elements()
}

// measure reads a shard's weights.
func (s *sharedMeasure) measure(ctx context.Context, shard int, at stamp, p Progress) (*measuredShard, error) {
	m := s.meter(shard)
	want := func(t checkpoint.Tensor) bool { return t.Shard == shard && measurable(t) }
	err := s.l.m.ck.Each(ctx, 0, want, func(t checkpoint.Tensor, start int64, buf []byte) error {
		p.Add(int64(len(buf)))
		return m.add(t, start, buf)
	})
	if err != nil {
		return nil, err
	}
	return m.record(at), nil
}

// meter measures one shard.
type meter struct {
	*gatherer
	tensors []checkpoint.Tensor
	crc     map[string]*uint32 // by tensor
}

func (s *sharedMeasure) meter(shard int) *meter {
	m := &meter{gatherer: newGatherer(), tensors: s.tensors(shard), crc: map[string]*uint32{}}
	for _, t := range m.tensors {
		m.crc[t.Name] = new(uint32)
	}
	return m
}

// add takes the next chunk of a tensor.
func (m *meter) add(t checkpoint.Tensor, start int64, buf []byte) error {
	m.gatherer.add(t.Name, figuresOf(t, start, buf, nil))
	c := m.crc[t.Name]
	*c = crc32.Update(*c, castagnoli, buf)
	return nil
}

// record is what was measured.
func (m *meter) record(at stamp) *measuredShard {
	out := &measuredShard{Schema: partsSchema, Source: at}
	for _, t := range m.tensors {
		r := measuredTensor{Name: t.Name, CRC: crcText(*m.crc[t.Name])}
		if st := m.stats[t.Name]; st != nil {
			r.set(st)
		}
		if e, ok := m.normal16[t.Name]; ok {
			r.Normal16 = &e
		}
		if room, ok := m.room[t.Name]; ok {
			r.Room = &[2]int{room.Lo, room.Hi}
		}
		out.Tensors = append(out.Tensors, r)
	}
	return out
}

// activations are what portable measures: log2 of the values' largest elements.
type activations struct {
	Schema  int     `json:"schema"`
	Weights string  `json:"weights"` // digest of their checksums
	LogMax  []exact `json:"log_max"` // one per value of the graph
}

func (s *sharedMeasure) observe(ctx context.Context, sol *gauge.Solution, p Progress) ([]float64, error) {
	path := s.f.path("", activationsName)
	weights := s.weights()
	nodes := len(s.l.m.net.Graph.Nodes)
	read := func() []float64 {
		var a activations
		if readRecord(path, &a) != nil || a.Schema != partsSchema || a.Weights != weights || len(a.LogMax) != nodes {
			return nil
		}
		out := make([]float64, nodes)
		for i, x := range a.LogMax {
			out[i] = float64(x)
		}
		return out
	}
	if out := read(); out != nil {
		return out, nil
	}
	stale := exists(path)
	out, err := s.l.m.observe(ctx, sol, p)
	if err != nil {
		return nil, err
	}
	a := activations{Schema: partsSchema, Weights: weights}
	for _, x := range out {
		a.LogMax = append(a.LogMax, exact(x))
	}
	if err := writeRecord(path, a, stale); fault.KindOf(err) == fault.NoSpace {
		return nil, err
	}
	if first := read(); first != nil {
		return first, nil
	}
	return out, nil
}

// weights is a digest of all weights that were measured.
func (s *sharedMeasure) weights() string {
	var list [][2]string
	for _, t := range s.l.m.ck.Shards() {
		for _, m := range s.shards[t.Path].Tensors {
			list = append(list, [2]string{m.Name, m.CRC})
		}
	}
	return digestJSON(list)
}

// same demands that the weights that were sealed are those that were measured.
func (s *sharedMeasure) same(shard string, sums map[string]string) error {
	for _, t := range s.shards[shard].Tensors {
		if got, ok := sums[t.Name]; t.N > 0 && (!ok || got != t.CRC) {
			return fault.New(fault.Mismatch, "%s: tensor %q is not what it was when the weights were measured", shard, t.Name).
				WithHint("something changes the checkpoint; let it finish, remove the folder %s and seal all parts again", s.f.dir)
		}
	}
	return nil
}

// originals maps tensors to their checksums before sealing.
func (r *shardRecord) originals() map[string]string {
	out := map[string]string{}
	for _, c := range r.Checksums {
		out[c.Tensor] = c.Original
	}
	return out
}

// planDigest names a plan: everything that decides a sealed shard's bytes,
// with the setup. The time does not.
func (l *locker) planDigest() string {
	m := *l.man
	m.Timestamp = ""
	return "sha256:" + digestJSON(&m)
}

func (p Part) guardName() string { return fmt.Sprintf("part-%d-of-%d", p.Index, p.Count) }
