package neuroseal

import (
	"context"
	"errors"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// InspectOptions say what to look at.
type InspectOptions struct {
	Path          string
	Remote        *Remote      // a checkpoint that is elsewhere, in place of Path; only its headers are read; nil: none
	Graph         string       // as in LockOptions; needed where the manifest names a graph
	Profile       seal.Profile // for an unsealed checkpoint; default portable
	Detect        bool         // read the weights and look for traces of a seal
	AllowUnsealed bool
	Progress      Progress
}

// Inspection describes a checkpoint: what a seal touches, or would touch.
type Inspection struct {
	ModelType string     `json:"model_type"`
	Sealed    bool       `json:"sealed"`
	Method    string     `json:"method"`
	Profile   string     `json:"profile"`
	FreeDims  int        `json:"free_dims"`
	Coverage  float64    `json:"coverage"`
	Groups    []GroupRow `json:"groups"`
	Holes     []Hole     `json:"holes"`

	Parameters int64      `json:"parameters"`
	Quantised  []string   `json:"quantised,omitempty"` // formats of quantised weights, and how many there are
	Bytes      int64      `json:"bytes"`
	Residual   bool       `json:"residual_gauge"` // the residual stream and the norms' epsilon can move
	Detection  *Detection `json:"detection,omitempty"`
	Legacy     string     `json:"legacy,omitempty"` // method of the original Python tool

	SealID    string            `json:"seal_id,omitempty"`
	Timestamp string            `json:"timestamp,omitempty"`
	Tool      string            `json:"tool,omitempty"`
	Promise   *manifest.Promise `json:"promise,omitempty"`
	Notes     []string          `json:"notes,omitempty"`
	Keyslots  []keys.Slot       `json:"keyslots,omitempty"`
}

// GroupRow is one group of classes.
type GroupRow struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Classes int    `json:"classes"` // factors that the network allows
	Factors int    `json:"factors"` // factors under the profile's blocks
	Block   int    `json:"block"`   // classes that share a factor
	Layer   int    `json:"layer"`
}

// Hole is a tensor that no factor touches.
type Hole struct {
	Tensor string `json:"tensor"`
	Why    string `json:"why"`
}

// Inspect describes a checkpoint. It needs no key.
func Inspect(ctx context.Context, o InspectOptions) (*Inspection, error) {
	o.Progress = orSilent(o.Progress)
	if o.Profile == "" {
		o.Profile = seal.Portable
	}
	man, err := o.readManifest()
	var legacy manifest.Legacy
	if err != nil && !errors.As(err, &legacy) && fault.KindOf(err) != fault.NotSealed {
		return nil, err
	}
	// What a seal left alone on purpose must not stop a look at it.
	if man != nil {
		if err := needsGraph(man, o.Graph); err != nil {
			return nil, err
		}
	}
	m, err := o.open(arch.Options{Tokens: observeTokens, AllowUnsealed: o.AllowUnsealed || man != nil})
	if err != nil {
		return nil, err
	}
	defer m.ck.Close()
	sol, err := m.solve()
	if err != nil {
		return nil, err
	}
	res := &Inspection{
		ModelType: m.net.Type, FreeDims: sol.FreeDims, Residual: sol.Residual >= 0,
		Parameters: m.parameters(), Bytes: m.ck.TotalBytes(), Legacy: legacy.Method,
		Groups: []GroupRow{}, Holes: []Hole{}, Notes: m.net.Warn,
	}
	res.Quantised = m.quant.Formats()
	switch {
	case man != nil:
		res.sealed(man, sol)
	case legacy.Method != "":
		res.Sealed, res.Method = true, legacy.Method
		res.Notes = append(res.Notes, "sealed by the original Python tool, which records nothing more")
	default:
		res.possible(m, sol, o.Profile)
		res.Notes = append(res.Notes, "coverage is what the network and the profile's blocks allow; lock --dry-run reads the weights and says what they leave room for")
	}
	if o.Detect {
		found, err := m.scan(ctx, o.Progress)
		if err != nil {
			return nil, err
		}
		full, err := m.stored(sol)
		if err != nil {
			return nil, err
		}
		d := detect(full, m, found.stats)
		res.Detection = &d
		if d.Sealed && man == nil {
			res.Sealed = true
			res.Notes = append(res.Notes, "sealed, as its weights show, but its manifest is gone")
		}
	}
	return res, nil
}

func (o *InspectOptions) readManifest() (*manifest.Manifest, error) {
	if o.Remote != nil {
		return o.Remote.ReadManifest()
	}
	return readManifest(o.Path)
}

func (o *InspectOptions) open(opt arch.Options) (*model, error) {
	switch {
	case o.Remote == nil:
		return openWith(o.Path, o.Graph, opt)
	case o.Detect || o.Graph != "":
		return nil, fault.New(fault.Usage, "the weights of %s are not here, only their headers", o.Remote.Name).WithHint("download it first")
	}
	return openRemote(o.Remote, headers{o.Remote.Files}, opt)
}

// possible fills in what a seal of this profile could touch.
func (r *Inspection) possible(m *model, full *gauge.Solution, p seal.Profile) {
	sol := restrict(full, p)
	r.Profile = string(p)
	for i, g := range sol.Groups {
		r.Groups = append(r.Groups, GroupRow{g.ID, string(g.Kind), full.Groups[i].Classes, g.Classes, blockLength(full.Groups[i].Classes, g.Classes), g.Layer})
	}
	for _, h := range sol.Holes {
		r.Holes = append(r.Holes, Hole(h))
	}
	for _, u := range m.net.Unknown {
		r.Holes = append(r.Holes, Hole{u, "not read by the network"})
	}
	r.Coverage = coverage(sol, r.Parameters, func(g int) bool { return sol.Groups[g].Classes > 0 })
}

// sealed fills in what the manifest records.
func (r *Inspection) sealed(m *manifest.Manifest, full *gauge.Solution) {
	r.Sealed, r.Method, r.Profile = true, m.Method, m.Profile
	r.FreeDims, r.Coverage = m.FreeDims, m.Coverage
	r.SealID, r.Timestamp, r.Tool, r.Notes = m.SealID, m.Timestamp, m.Tool, m.Notes
	r.Promise, r.Keyslots = &m.Promise, m.Keyslots
	classes := map[string]int{}
	for _, g := range full.Groups {
		classes[g.ID] = g.Classes
	}
	moved := map[int]bool{}
	for _, t := range m.Tensors {
		for _, term := range t.Terms {
			for _, s := range term.Segments {
				moved[s[2]] = true
			}
		}
	}
	for i, g := range m.Groups {
		if !moved[i] {
			continue
		}
		r.Groups = append(r.Groups, GroupRow{g.ID, g.Kind, max(classes[g.ID], g.Classes), g.Classes, g.Block, g.Layer})
	}
	for _, h := range m.Holes {
		r.Holes = append(r.Holes, Hole(h))
	}
}
