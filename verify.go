package neuroseal

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/modelcard"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/seal"
)

// VerifyOptions say what to check.
type VerifyOptions struct {
	Sealed  string
	Graph   string // as in LockOptions; needed where the manifest names a graph
	Against string // the original; "": compare with what the manifest records
	Run     bool   // run both networks and demand equal outputs
	// Quantisers compares the codes of later block quantisation, matrix by matrix.
	Quantisers bool
	// Key, if set, lets the algebra be checked without the original: every
	// tensor is scaled back and compared with the recorded checksum.
	Key func(*manifest.Manifest) (keys.SealKey, error)
	// Hashed has the SHA-256, by path and in hexadecimal, of files that were
	// hashed just now, as for a signature; they are not hashed again.
	Hashed   map[string]string
	Progress Progress
}

// VerifyResult says what holds. A nil pointer means that nothing was there to
// check it with.
type VerifyResult struct {
	OK              bool           `json:"ok"`
	Method          string         `json:"method"`
	Profile         string         `json:"profile,omitempty"`
	BitExactAlgebra *bool          `json:"bit_exact_algebra"`
	BitExactForward *bool          `json:"bit_exact_forward"`
	DigestsOK       *bool          `json:"digests_ok"`
	Reordered       bool           `json:"reordered,omitempty"` // permuted: outputs are compared within a tolerance
	Mismatches      []Mismatch     `json:"mismatches"`
	Forward         []probe.Report `json:"forward,omitempty"`
	Quantisers      []QuantiserRow `json:"quantisers,omitempty"`
	Notes           []string       `json:"notes,omitempty"`
	// Edited names what was edited after sealing and may be: the model card, or
	// nothing. A signature tells whose edits they are.
	Edited []string `json:"edited,omitempty"`
}

// Mismatch is one thing that is not as it should be.
type Mismatch struct {
	File   string `json:"file,omitempty"`
	Tensor string `json:"tensor,omitempty"`
	What   string `json:"what"`
}

// verifyTokens is how many tokens the forward passes read.
const verifyTokens = 12

// verifier carries one verification.
type verifier struct {
	o   VerifyOptions
	man *manifest.Manifest
	ck  *checkpoint.Checkpoint
	res *VerifyResult

	moved  *reorder // of a seal with permutations, once its key is known
	movers sync.Map // their editors, by tensor
}

// Verify checks a sealed checkpoint: its bytes against the manifest, its
// weights against the original (or, with the key, against the original's
// checksums), and its outputs against the original's.
func Verify(ctx context.Context, o VerifyOptions) (*VerifyResult, error) {
	o.Progress = orSilent(o.Progress)
	man, err := readManifest(o.Sealed)
	if err != nil {
		return nil, err
	}
	if o.Against != "" || o.Run || o.Quantisers {
		if err := needsGraph(man, o.Graph); err != nil {
			return nil, err
		}
	}
	ck, err := openCheckpoint(o.Sealed)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	if _, err := seal.Decode(man); err != nil {
		return nil, err
	}
	v := &verifier{o: o, man: man, ck: ck, res: &VerifyResult{Method: man.Method, Profile: man.Profile, Mismatches: []Mismatch{}}}
	if err := v.digests(ctx); err != nil {
		return nil, err
	}
	if err := v.algebra(ctx); err != nil {
		return nil, err
	}
	if o.Run {
		if err := v.forward(ctx); err != nil {
			return nil, err
		}
	}
	if o.Quantisers {
		if err := v.quantisers(ctx); err != nil {
			return nil, err
		}
	}
	v.res.OK = len(v.res.Mismatches) == 0
	return v.res, nil
}

func (v *verifier) mismatch(file, tensor, format string, args ...any) {
	v.res.Mismatches = append(v.res.Mismatches, Mismatch{file, tensor, fmt.Sprintf(format, args...)})
}

// digests compares every file with the manifest's SHA-256.
func (v *verifier) digests(ctx context.Context) error {
	var names []string
	var sums []checkpoint.FileDigest
	present := map[string]bool{}
	for _, s := range v.ck.Shards() {
		present[s.Path] = true
	}
	for _, f := range v.ck.OtherFiles() {
		present[f.Path] = true
	}
	ok := true
	var total int64
	for _, f := range v.man.Files {
		if !present[f.Path] && f.Path == modelcard.Name {
			v.res.Edited = append(v.res.Edited, f.Path)
			continue
		}
		if !present[f.Path] {
			v.mismatch(f.Path, "", "missing")
			ok = false
			continue
		}
		delete(present, f.Path)
		if sum, ok := v.o.Hashed[f.Path]; ok {
			sums = append(sums, checkpoint.FileDigest{Path: f.Path, SHA256: sum})
			continue
		}
		names = append(names, f.Path)
		total += f.Size
	}
	delete(present, manifest.Name)
	for _, name := range signatures {
		delete(present, name) // made after sealing, and checked apart
	}
	for p := range present {
		v.res.Notes = append(v.res.Notes, "not in the manifest: "+p)
	}
	slices.Sort(v.res.Notes)
	v.o.Progress.Stage("hashing", total)
	read, err := checkpoint.Digest(ctx, v.ck.Root(), names, 0, v.o.Progress.Add)
	if err != nil {
		return err
	}
	for _, s := range append(sums, read...) {
		want := v.file(s.Path)
		switch {
		case s.SHA256 == want.SHA256:
		case s.Path == modelcard.Name:
			v.res.Edited = append(v.res.Edited, s.Path)
		default:
			ok = false
			v.mismatch(s.Path, v.damaged(ctx, s.Path), "SHA-256 is %s, recorded %s", s.SHA256, want.SHA256)
		}
	}
	v.res.DigestsOK = &ok
	return nil
}

func (v *verifier) file(path string) manifest.File {
	for _, f := range v.man.Files {
		if f.Path == path {
			return f
		}
	}
	return manifest.File{}
}

// damaged names the first tensor of a shard whose checksum differs.
func (v *verifier) damaged(ctx context.Context, file string) string {
	shard := slices.IndexFunc(v.ck.Shards(), func(s checkpoint.Shard) bool { return s.Path == file })
	if shard < 0 {
		return ""
	}
	var first string
	err := v.checksums(ctx, func(t checkpoint.Tensor) bool { return t.Shard == shard },
		func(c manifest.Checksum) string { return c.Sealed }, nil,
		func(t checkpoint.Tensor) {
			if first == "" {
				first = t.Name
			}
		})
	if err != nil {
		return ""
	}
	return first
}

// checksums computes the CRC-32C of tensors, edited if edit is set, and calls
// bad for those that differ from the recorded one.
func (v *verifier) checksums(ctx context.Context, want func(checkpoint.Tensor) bool, recorded func(manifest.Checksum) string,
	edit func(checkpoint.Tensor) checkpoint.Editor, bad func(checkpoint.Tensor)) error {
	var mu sync.Mutex
	crc := map[string]uint32{}
	editors := map[string]checkpoint.Editor{}
	failed := map[string]bool{}
	err := v.ck.Each(ctx, 0, want, func(t checkpoint.Tensor, start int64, buf []byte) error {
		mu.Lock()
		c, ed := crc[t.Name], editors[t.Name]
		if ed == nil && edit != nil {
			ed = edit(t)
			editors[t.Name] = ed
		}
		mu.Unlock()
		broken := ed != nil && ed.Edit(start, buf) != nil
		c = crc32.Update(c, castagnoli, buf)
		mu.Lock()
		crc[t.Name] = c
		failed[t.Name] = failed[t.Name] || broken
		mu.Unlock()
		v.o.Progress.Add(int64(len(buf)))
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range v.man.Checksums {
		t, ok := v.ck.Tensor(c.Tensor)
		if ok && want(t) && (failed[c.Tensor] || crcText(crc[c.Tensor]) != recorded(c)) {
			bad(t)
		}
	}
	return nil
}

// algebra proves, tensor by tensor, that sealed and original weights differ by
// factors that cancel.
func (v *verifier) algebra(ctx context.Context) error {
	switch {
	case v.man.Method != string(seal.Gauge):
		no := false
		v.res.BitExactAlgebra = &no
		v.res.Notes = append(v.res.Notes, "method "+v.man.Method+" rounds: it is not bit-exact, by design of the original tool")
		return nil
	case v.o.Against != "" && v.man.Permute != nil && v.o.Key == nil:
		v.res.Notes = append(v.res.Notes, "algebra not checked: the weights are permuted, and only the key tells how; give the key as well")
		return nil
	case v.o.Against != "":
		return v.against(ctx)
	case v.o.Key != nil:
		return v.restored(ctx)
	}
	v.res.Notes = append(v.res.Notes, "algebra not checked: give --against ORIGINAL, or the key")
	return nil
}

// restored scales every tensor back and compares it with the original's
// recorded checksum. The key has authenticated the manifest.
func (v *verifier) restored(ctx context.Context) error {
	inv, err := inverse(v.ck, v.man, v.o.Key)
	if err != nil {
		return err
	}
	v.o.Progress.Stage("scaling back", v.ck.TotalBytes())
	ok := true
	err = v.checksums(ctx, func(checkpoint.Tensor) bool { return true },
		func(c manifest.Checksum) string { return c.Original }, inv,
		func(t checkpoint.Tensor) {
			ok = false
			v.mismatch(v.ck.Shards()[t.Shard].Path, t.Name, "does not scale back to the original")
		})
	v.res.BitExactAlgebra = &ok
	return err
}

// forward runs both networks on the same inputs and compares their outputs:
// as they are and, where routers choose experts, as often again as it takes
// to have every expert chosen.
func (v *verifier) forward(ctx context.Context) error {
	p, err := v.sides()
	if err != nil {
		return err
	}
	defer p.a.ck.Close()
	defer p.b.ck.Close()
	routes, err := v.forcible(p.b)
	if err != nil {
		return err
	}
	equal := true
	for route := range routes + 1 {
		for _, prec := range []probe.Precision{probe.FP32, probe.BF16} {
			name := "the network"
			if route > 0 {
				name = fmt.Sprintf("forced routing %d of %d", route, routes)
			}
			if route > 0 && v.moved != nil {
				p.b.edit, p.b.editors = v.movedBack, nil
			}
			v.o.Progress.Stage(fmt.Sprintf("running %s %s", name, prec), 2*v.ck.TotalBytes())
			rep, err := probe.Compare(ctx, p.a.side(), p.b.side(),
				probe.Options{Tokens: p.b.tokens(), Precision: prec, Route: route, Progress: v.o.Progress.Add})
			if err != nil {
				return err
			}
			v.res.Forward = append(v.res.Forward, rep)
			equal = equal && rep.Equal
			if v.reordered(rep) {
				continue
			}
			if !rep.Equal && v.man.Method == string(seal.Gauge) {
				v.mismatch("", "", "outputs differ by up to %g of %g in %s (%s)", rep.MaxDiff, rep.MaxAbs, prec, name)
			}
		}
	}
	v.covered(p.b.net.Graph, routes)
	if v.man.Permute != nil {
		v.res.Reordered = true
		v.res.Notes = append(v.res.Notes, fmt.Sprintf("permuted: outputs in fp32 are demanded to be within %g of the largest; in bf16, where every rounding depends on the order of sums, their difference is only reported", reorderedTolerance))
	}
	v.res.BitExactForward = &equal
	return nil
}

// covered says what the runs saw of the network.
func (v *verifier) covered(g *graph.Graph, routes int) {
	if routes > 0 {
		v.res.Notes = append(v.res.Notes, fmt.Sprintf("experts: besides the network's own choice, %s in each precision with forced routing, in which every router chose every one of its experts at least once", runsText(routes)))
	}
	opaque := map[string]bool{}
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Op == graph.OpOpaque {
			opaque[n.Name] = true
		}
	}
	if len(opaque) > 0 {
		v.res.Notes = append(v.res.Notes, "operations that are not run: "+strings.Join(slices.Sorted(maps.Keys(opaque)), ", ")+
			"; what goes into them was compared, and what follows them with stand-in values")
	}
	for _, r := range v.res.Forward {
		if !r.Finite {
			v.res.Notes = append(v.res.Notes, fmt.Sprintf("outputs in %s are not all finite numbers: equal ones prove less there", r.Precision))
			break
		}
	}
}

// pair is an original and a sealed network to run.
type pair struct{ a, b *model }

func (m *model) side() probe.Side { return probe.Side{Graph: m.net.Graph, Source: m} }

// sides opens both networks.
func (v *verifier) sides() (p pair, err error) {
	if v.o.Against == "" && v.o.Key == nil {
		return p, fault.New(fault.Usage, "running needs the original").WithHint("give --against ORIGINAL, or the key")
	}
	opt := arch.Options{Tokens: verifyTokens, AllowUnsealed: true}
	if p.a, err = v.original(opt); err != nil {
		return p, err
	}
	if v.o.Graph == "" {
		p.b, err = openModel(v.o.Sealed, opt)
	} else {
		p.b, err = p.a.like(v.o.Sealed)
	}
	if err != nil {
		p.a.ck.Close()
	}
	return p, err
}

// original opens the original network, or takes the seal back in memory.
func (v *verifier) original(opt arch.Options) (*model, error) {
	if v.o.Against != "" {
		return openWith(v.o.Against, v.o.Graph, opt)
	}
	inv, err := inverse(v.ck, v.man, v.o.Key)
	if err != nil {
		return nil, err
	}
	conf, err := revertPatches(v.ck, v.man)
	if err != nil {
		return nil, err
	}
	m, err := openWith(v.o.Sealed, v.o.Graph, opt)
	if err != nil {
		return nil, err
	}
	m.edit = inv
	if m.eps != nil {
		if err := m.restoreEpsilon(v.man); err != nil {
			m.ck.Close()
			return nil, err
		}
	}
	if c, ok := conf["config.json"]; ok {
		m.conf = c
		if err := m.build(); err != nil {
			m.ck.Close()
			return nil, err
		}
	}
	return m, nil
}

// against compares with the original: it finds the exponent of every class
// from the weights themselves and demands that original, scaled by them, is
// the sealed tensor byte for byte.
func (v *verifier) against(ctx context.Context) error {
	orig, err := openWith(v.o.Against, v.o.Graph, arch.Options{Tokens: verifyTokens, AllowUnsealed: true})
	if err != nil {
		return err
	}
	defer orig.ck.Close()
	ok, err := v.cancels(ctx, orig)
	v.res.BitExactAlgebra = &ok
	return err
}

func runsText(n int) string {
	if n == 1 {
		return "one run"
	}
	return fmt.Sprintf("%d runs", n)
}
