package neuroseal

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/oms"
	"github.com/neuroseal/neuroseal/seal"
)

// DefaultScale is the scale of the original tool: the factor of static, the
// top of dynamic, and the bound of portable (2^6).
const DefaultScale = 100

// LockOptions say how to seal.
type LockOptions struct {
	Source, Output string
	Remote         *Remote // a checkpoint that is elsewhere, in place of Source; nil: none
	// Sum returns what is known of a file of Source by its name: its SHA-256, in 64
	// hexadecimal digits, which it must have to be sealed, or anything else. nil:
	// nothing is known.
	Sum   func(file string) string
	Graph string // .pt2 or .onnx that describes the network; "": by the config

	Method  seal.Method  // default gauge
	Profile seal.Profile // of method gauge; default portable
	Scale   float64      // 0: DefaultScale, and strong and max choose their own range

	Key   keys.SealKey // not used by static
	Slots []keys.Slot  // go into the manifest

	Include, Exclude []string // groups by kind or by id, with wildcards
	Permute          bool     // of method gauge: channels, heads and experts change places, too; exact but for the order of sums
	Signs            bool     // of method gauge: factors may be negative, too, where the network is odd in them

	Force         bool // replace an output that is not empty
	DryRun        bool // analyse only
	AllowUnsealed bool // leave tensors alone that the network does not read
	AllowSealed   bool // do not refuse weights that look sealed already

	// The model card, README.md of an output folder, gets a section on the seal,
	// which unlock takes out again.
	NoCard      bool   // leave it as it is
	CardSection []byte // Markdown of measured resistance, put there too; nil: none
	BaseModel   string // id on the hub of what is sealed; "": what the config says, if anything

	// Register is called with the complete manifest before the output becomes
	// visible; its error stops the lock. Where Lock fails after that, it is the
	// caller who takes the registration back. nil: nothing is called.
	Register func(*manifest.Manifest) error

	Time     time.Time // recorded; zero: now
	Progress Progress
	Notice   func(string) // told what the user should know; nil: nobody is

	// Signer signs the output: a folder as model.sig inside, a model file and its
	// manifest beside them, as .sig. nil: no signature.
	Signer *oms.Signer

	// Unnest expands scales of bitsandbytes that are quantised themselves to plain
	// F32 ones, which factors can move; without it such a checkpoint is refused.
	Unnest bool

	// NoMetadata leaves the neuroseal.* keys out of a GGUF's metadata.
	NoMetadata bool

	fileName string // of the model file when the output is one
	files    fs.FS  // of Remote, read here when they are here
}

// LockResult says what was sealed.
type LockResult struct {
	Manifest *manifest.Manifest
	Explain  []Explanation // one per group
	Bytes    int64         // size of the output
	LeftOut  []string      // files that were not copied; the manifest's notes say why
	Output   string

	Signature string // path of the output's signature; "": none
}

// Explanation tells why a group's range is what it is.
type Explanation struct {
	Group string `json:"group"`
	Lo    int    `json:"lo"`
	Hi    int    `json:"hi"`
	Why   string `json:"why"`
}

// observeTokens is how many tokens measure the activations of portable.
const observeTokens = 4

// Lock seals a checkpoint. The output becomes visible when it is complete; the
// source is only read.
func Lock(ctx context.Context, o LockOptions) (*LockResult, error) {
	if o.Remote != nil {
		return lockRemote(ctx, o)
	}
	if modelFile(o.Output) {
		return lockFile(ctx, o)
	}
	l, err := openLocker(o)
	if err != nil {
		return nil, err
	}
	defer l.m.ck.Close()
	if !o.DryRun {
		if err := l.checkOutput(); err != nil {
			return nil, err
		}
		if err := checkSpace(o.Output, l.m.ck.TotalBytes()); err != nil {
			return nil, err
		}
	}
	if err := l.solve(); err != nil {
		return nil, err
	}
	if l.o.Method == seal.Gauge && l.o.Profile == seal.Portable {
		l.measure = &together{model: l.m, last: l.m.lastMoved(l.full)}
	}
	if err := l.plan(ctx); err != nil {
		return nil, err
	}
	if o.DryRun {
		return l.result(), nil
	}
	res := l.result()
	return res, l.write(ctx, res)
}

// openLocker opens the source of a lock.
func openLocker(o LockOptions) (*locker, error) {
	o.Progress = orSilent(o.Progress)
	if err := o.defaults(); err != nil {
		return nil, err
	}
	if err := o.refuseSealed(); err != nil {
		return nil, err
	}
	if err := o.suitsGGUF(); err != nil {
		return nil, err
	}
	if err := o.suitsONNX(); err != nil {
		return nil, err
	}
	m, err := o.openSource()
	if err != nil {
		return nil, err
	}
	if err := refuseAdapter(m.ck); err != nil {
		m.ck.Close()
		return nil, err
	}
	if err := o.canSign(m.ck); err != nil {
		m.ck.Close()
		return nil, err
	}
	if err := o.suitsNested(m); err != nil {
		m.ck.Close()
		return nil, err
	}
	if m.quant != nil && o.Method != seal.Gauge {
		m.ck.Close()
		return nil, fault.New(fault.Usage, "method %s rounds, which scales of quantised weights do not bear", o.Method).
			WithHint("use the default method")
	}
	if m.quant != nil && o.Permute {
		m.ck.Close()
		return nil, fault.New(fault.Usage, "permutations would change the codes of quantised weights, which stay as they are").
			WithHint("leave --permute out, or seal the unquantised checkpoint")
	}
	return &locker{o: o, m: m, measure: m, remote: o.Remote}, nil
}

func (o *LockOptions) refuseSealed() error {
	if o.Remote != nil {
		return refuseSealedRemote(o.Remote)
	}
	return refuseSealed(o.Source)
}

func (o *LockOptions) openSource() (*model, error) {
	opt := arch.Options{Tokens: observeTokens, AllowUnsealed: o.AllowUnsealed}
	if o.Remote != nil {
		return openRemote(o.Remote, o.files, opt)
	}
	return openWith(o.Source, o.Graph, opt)
}

// checkOutput refuses an output that cannot be written, before any long work.
func (l *locker) checkOutput() error {
	if err := l.m.ck.CheckOutput(l.o.Output); err != nil {
		return err
	}
	return atomicdir.Check(l.o.Output, atomicdir.Options{Force: l.o.Force})
}

// solve derives the pairs.
func (l *locker) solve() (err error) {
	l.full, err = l.m.solve()
	return err
}

func (l *locker) result() *LockResult {
	return &LockResult{Manifest: l.man, Explain: l.explain, Bytes: l.m.ck.TotalBytes(), Output: l.o.Output, Signature: l.o.signatureOf()}
}

func (o *LockOptions) defaults() error {
	if o.Method == "" {
		o.Method = seal.Gauge
	}
	if o.Profile == "" && o.Method == seal.Gauge {
		o.Profile = seal.Portable
	}
	switch o.Method {
	case seal.Gauge:
		if o.Profile != seal.Portable && o.Profile != seal.Strong && o.Profile != seal.Max {
			return fault.New(fault.Usage, "profile %q: use portable, strong or max", o.Profile)
		}
	case seal.Static, seal.Dynamic:
		if o.Profile != "" {
			return fault.New(fault.Usage, "method %s has no profiles", o.Method)
		}
		if o.Signs || o.Permute {
			return fault.New(fault.Usage, "method %s has no signs and no permutations", o.Method).WithHint("use method gauge")
		}
	default:
		return fault.New(fault.Usage, "method %q: use gauge, static or dynamic", o.Method)
	}
	if o.Scale != 0 && (math.IsNaN(o.Scale) || o.Scale < 2 || o.Scale > 1e30) {
		return fault.New(fault.Usage, "scale %g: it must be between 2 and 1e30", o.Scale)
	}
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	return nil
}

// locker carries one lock from analysis to output.
type locker struct {
	o       LockOptions
	m       *model
	measure measurer
	remote  *Remote         // what m is; nil: a checkpoint on this machine
	full    *gauge.Solution // all freedom
	sol     *gauge.Solution // after the profile's blocks
	stored  *gauge.Solution // of the tensors that stand in the file
	seal    seal.Plan
	places  *gauge.Permutations // what changes places; nil: nothing
	real    []seal.RealFactor
	conf    []byte // config.json of the output; nil: unchanged
	man     *manifest.Manifest
	explain []Explanation
}

// measurer tells what the weights are like. A model measures itself.
type measurer interface {
	scan(context.Context, Progress) (*measured, error)
	observe(context.Context, *gauge.Solution, Progress) ([]float64, error)
}

// plan chooses what moves and how far.
func (l *locker) plan(ctx context.Context) error {
	weights, err := l.measure.scan(ctx, l.o.Progress)
	if err != nil {
		return err
	}
	if !l.o.AllowSealed {
		full, err := l.m.stored(l.full)
		if err != nil {
			return err
		}
		if found := detect(full, l.m, weights.stats); found.Sealed {
			return found.Refuse(l.o.Source)
		}
	}
	l.man = &manifest.Manifest{
		Sealed: true, Method: string(l.o.Method), Schema: manifest.Schema, Tool: "neuroseal " + Version,
		Timestamp: l.o.Time.UTC().Format(time.RFC3339), ModelType: l.m.net.Type, FreeDims: l.full.FreeDims,
		Scale: l.o.Scale, Profile: string(l.o.Profile), Notes: l.m.net.Warn,
	}
	if l.man.Graph, err = graphRecord(l.o.Graph); err != nil {
		return err
	}
	for _, b := range l.m.net.Unknown {
		l.man.Holes = append(l.man.Holes, manifest.Hole{Tensor: b, Why: "not read by the network; left alone by --allow-unsealed"})
	}
	if l.o.Method != seal.Gauge {
		return l.planReal()
	}
	return l.planGauge(ctx, weights.facts(l.m.ck))
}

func (l *locker) planGauge(ctx context.Context, tensors map[string]seal.TensorFacts) error {
	if !slices.ContainsFunc(l.full.Groups, l.o.selects) {
		return fault.New(fault.Usage, "--include and --exclude leave no group").
			WithHint("patterns match a group's kind (%s, %s, %s, %s, %s) or its id; lock --dry-run --explain lists them",
				gauge.Norm, gauge.QK, gauge.VO, gauge.FFN, gauge.Residual)
	}
	l.sol = restrict(l.full, l.o.Profile)
	var err error
	if l.stored, err = l.m.stored(l.sol); err != nil {
		return err
	}
	l.m.describe(tensors)
	if err := l.m.variances(tensors); err != nil {
		return err
	}
	f := seal.Facts{Graph: l.m.net.Graph, Solution: l.stored, Tensors: tensors, Growing: l.m.growing()}
	if f.Eps, err = l.m.epsilons(l.sol.Eps); err != nil {
		return err
	}
	held := l.held()
	r := seal.Request{Profile: l.o.Profile, Select: func(g gauge.Group) bool { return l.o.selects(g) && held[g.ID] == "" }}
	if l.o.Scale != 0 || l.o.Profile == seal.Portable {
		if l.man.Scale == 0 {
			l.man.Scale = DefaultScale
		}
		r.Bound = int(math.Log2(l.man.Scale))
	}
	f.Kept = l.m.kept()
	if l.o.Profile == seal.Portable {
		if f.Observed, err = l.measure.observe(ctx, l.sol, l.o.Progress); err != nil {
			return err
		}
	}
	ranges, err := seal.Allocate(f, r)
	if err != nil {
		return fault.Wrap(fault.Unsupported, err, "choosing exponents")
	}
	for i, g := range ranges.Groups {
		if why := held[g.ID]; why != "" && l.o.selects(l.sol.Groups[i]) {
			ranges.Why[i] = why
		}
	}
	l.signs(ranges.Groups)
	l.seal.Groups = ranges.Groups
	if !l.o.DryRun {
		if err := l.seal.Redraw(l.o.Key); err != nil {
			return fault.Wrap(fault.Unsupported, err, "choosing exponents")
		}
	}
	for i, g := range ranges.Groups {
		lo, hi := g.Span()
		l.explain = append(l.explain, Explanation{g.ID, lo, hi, ranges.Why[i]})
	}
	if err := l.residual(); err != nil {
		return err
	}
	if err := l.record(ranges); err != nil {
		return err
	}
	return l.permute()
}

// residual edits the config for the residual group's exponent.
func (l *locker) residual() error {
	if l.sol.Residual < 0 || l.m.eps != nil { // of a GGUF, with the header
		return nil
	}
	n, _ := l.seal.Groups[l.sol.Residual].Span()
	conf, patches, err := patchEpsilons(l.m.conf, l.sol.Eps, n)
	if err != nil {
		return fault.Wrap(fault.Unsupported, err, "moving the norms' epsilon")
	}
	if len(patches) > 0 {
		l.conf, l.man.Patches = conf, patches
	}
	return nil
}

// record fills the manifest with what moves.
func (l *locker) record(r *seal.Ranges) error {
	moves := func(g int) bool { return !r.Groups[g].Fixed() }
	l.man.Promise = promise(l.o.Profile, r.Growth)
	if f := l.m.quant.Formats(); f != nil {
		l.man.Promise.Quantisers = []string{}
		l.man.Notes = append(l.man.Notes, "quantised, and sealed in its scales: "+strings.Join(f, "; "))
	}
	if note := l.m.halfNote(l.o.Profile); note != "" {
		l.man.Notes = append(l.man.Notes, note)
	}
	if l.o.Profile == seal.Portable && !r.Growth {
		l.man.Notes = append(l.man.Notes, "no growth form: this network has no norm gain and no residual stream that may move, so some matrices shrink; later conversion to fp16 or to quantisers with fp16 scales is not promised to be exact")
	}
	for i, g := range r.Groups {
		l.man.Groups = append(l.man.Groups, manifest.Group{
			ID: g.ID, Kind: string(g.Kind), Layer: g.Layer, Classes: g.Classes, Block: blockLength(l.full.Groups[i].Classes, g.Classes),
			Offsets: g.Offsets, Lo: g.Lo, Hi: g.Hi, Outliers: outliersOf(g), Signs: g.Signs, Draw: g.Draw,
		})
	}
	for i := range l.sol.Tensors {
		if t := &l.sol.Tensors[i]; covered(t, moves) == 0 {
			l.man.Holes = append(l.man.Holes, manifest.Hole{Tensor: t.Name, Why: l.holeWhy(t.Name, r)})
		}
	}
	for _, t := range l.stored.Tensors {
		if covered(&t, moves) == 0 {
			continue
		}
		t = prune(t, moves)
		l.seal.Tensors = append(l.seal.Tensors, t)
		l.man.Tensors = append(l.man.Tensors, encodeTensor(t))
	}
	sort.Slice(l.man.Holes, func(i, j int) bool { return l.man.Holes[i].Tensor < l.man.Holes[j].Tensor })
	l.man.Coverage = coverage(l.sol, l.m.parameters(), moves)
	if len(l.seal.Tensors) == 0 {
		return fault.New(fault.Unsupported, "profile %s finds no room for any factor in this checkpoint", l.o.Profile).
			WithHint("--explain names what limits each group; --profile strong has more room")
	}
	return nil
}

// blockLength is how many of the network's classes share one factor, on
// average and rounded up; 0 when the group has none left.
func blockLength(full, merged int) int {
	if merged == 0 {
		return 0
	}
	return (full + merged - 1) / merged
}

func (l *locker) holeWhy(name string, r *seal.Ranges) string {
	for _, h := range l.sol.Holes {
		if h.Tensor == name {
			return h.Why
		}
	}
	for i := range l.sol.Tensors {
		if t := &l.sol.Tensors[i]; t.Name == name && len(t.Terms) > 0 && len(t.Terms[0].Segments) > 0 {
			g := t.Terms[0].Segments[0].Group
			return fmt.Sprintf("group %s has no room: %s", r.Groups[g].ID, r.Why[g])
		}
	}
	return "nothing moves it"
}

// promise says what a profile holds.
func promise(p seal.Profile, growth bool) manifest.Promise {
	m := manifest.Promise{BitExact: []string{"bf16", "fp32"}, Runs: []string{"bf16", "fp32"}, Quantisers: []string{}, Reversible: true}
	switch {
	case p == seal.Portable && growth:
		m.Runs = append(m.Runs, "fp16")
		m.Quantisers = []string{"llama.cpp Q8_0, Q4_0", "block quantisers of 64 to 256 with F32 scales"}
	case p == seal.Portable:
		m.Runs = append(m.Runs, "fp16")
		m.Quantisers = []string{"block quantisers of 64 to 256 with F32 scales"}
	case p == seal.Strong:
		m.Quantisers = []string{"block quantisers of 64 with F32 scales (NF4)"}
	}
	return m
}

// selects applies --include and --exclude: patterns match a group's kind or id.
func (o *LockOptions) selects(g gauge.Group) bool {
	match := func(patterns []string) bool {
		for _, p := range patterns {
			if p == string(g.Kind) {
				return true
			}
			if ok, err := path.Match(p, g.ID); err == nil && ok {
				return true
			}
		}
		return false
	}
	return (len(o.Include) == 0 || match(o.Include)) && !match(o.Exclude)
}

// CheckPatterns refuses patterns that are malformed.
func CheckPatterns(patterns []string) error {
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil {
			return fault.New(fault.Usage, "pattern %q: %v", p, err)
		}
	}
	return nil
}
