package train

import (
	"math"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Method is an optimizer.
type Method string

// The optimizers, as the stacks that people use have them. States are float32.
const (
	AdamW     Method = "adamw"     // torch.optim.AdamW
	SGD       Method = "sgd"       // torch.optim.SGD
	Lion      Method = "lion"      // arXiv 2302.06675
	Adafactor Method = "adafactor" // transformers' Adafactor, scale_parameter on, relative_step off
	Muon      Method = "muon"      // torch.optim.Muon on hidden matrices, AdamW on the rest
	LAMB      Method = "lamb"      // AdamW with a trust ratio for every row
	Shampoo   Method = "shampoo"   // Meta's distributed_shampoo with Adam grafted, on one machine

	// RowCol and Pair are what an informed attacker writes against a seal: AdamW in
	// balanced coordinates, in which a matrix is what it holds divided by a factor
	// for each row and one for each column. RowCol estimates the factors from the
	// tensors themselves so that all rows and columns have a root mean square of 1;
	// a vector's factors are its magnitudes: learning rates are relative. Pair has
	// them from TrainOptions.Scales. Clipping and eps apply to balanced gradients.
	// An adapter's coordinates follow from those of its tensor, and one that has
	// learned nothing yet starts with the balanced values it would have there. With
	// a seal's own factors Pair trains the sealed model as AdamW does the original,
	// bit for bit, but for DoRA, whose norms see the columns' factors.
	RowCol Method = "row-col"
	Pair   Method = "pair"
)

// Optimizer says how parameters are updated. A zero field has the default of its
// method; a negative one stands for zero.
type Optimizer struct {
	Method      Method
	Beta1       float64 // AdamW and its kin, Lion: 0.9
	Beta2       float64 // AdamW and its kin: 0.999; Lion: 0.99
	Eps         float64 // AdamW, RowCol, Pair: 1e-8; LAMB: 1e-6; Muon: 1e-7; Shampoo: 1e-12
	WeightDecay float64 // 0, with every method
	Momentum    float64 // SGD: 0; Muon: 0.95
	RestRatio   float64 // Muon: learning rate of the rest over that of the matrices; 1
	Every       int     // Shampoo: steps between new roots; 5
	MaxDim      int     // Shampoo: axes that are longer keep a diagonal; 256
}

// value resolves a field: zero is the default, negative zero.
func value(x, def float64) float64 {
	switch {
	case x == 0:
		return def
	case x < 0:
		return 0
	}
	return x
}

// rule updates one parameter.
type rule interface {
	needs(p *Param) needs
	update(u *update)
}

// needs is the memory that a rule takes for a parameter.
type needs struct {
	states  []need // kept between steps, zero at first
	scratch int    // float32 elements
	wide    int    // float64 elements
}

type need struct {
	name string
	n    int
}

// update is one parameter's step.
type update struct {
	p       *Param
	lr      float64
	step    int // from 1
	states  map[string][]float32
	coords  *coords // RowCol, Pair
	workers int
	scratch []float32
	wide    []float64
}

func (u *update) state(name string) []float32 { return u.states[name] }

// floats takes scratch memory, whose content is undefined.
func (u *update) floats(n int) []float32 {
	out := u.scratch[:n:n]
	u.scratch = u.scratch[n:]
	return out
}

func (u *update) doubles(n int) []float64 {
	out := u.wide[:n:n]
	u.wide = u.wide[n:]
	return out
}

func (o Optimizer) rule() (rule, error) {
	adam := adamW{b1: value(o.Beta1, 0.9), b2: value(o.Beta2, 0.999), eps: value(o.Eps, 1e-8), decay: value(o.WeightDecay, 0)}
	switch o.Method {
	case AdamW, "":
		return adam, nil
	case RowCol, Pair:
		return balanced{adam}, nil
	case Shampoo:
		adam.eps = 1e-8
		out := shampoo{adam: adam, eps: value(o.Eps, 1e-12), every: o.Every, max: o.MaxDim}
		if out.every == 0 {
			out.every = 5
		}
		if out.max == 0 {
			out.max = 256
		}
		if out.every < 0 || out.max < 0 {
			return nil, fault.New(fault.Usage, "shampoo: roots every %d steps of axes up to %d", o.Every, o.MaxDim)
		}
		return out, nil
	case LAMB:
		adam.eps = value(o.Eps, 1e-6)
		return lamb{adam}, nil
	case SGD:
		return sgd{momentum: float32(value(o.Momentum, 0)), decay: float32(adam.decay)}, nil
	case Lion:
		return lion{b1: float32(adam.b1), b2: float32(value(o.Beta2, 0.99)), decay: adam.decay}, nil
	case Adafactor:
		return adafactor{decay: adam.decay}, nil
	case Muon:
		adam.eps = 1e-8
		return muon{rest: adam, momentum: float32(value(o.Momentum, 0.95)), eps: float32(value(o.Eps, 1e-7)), decay: adam.decay, ratio: value(o.RestRatio, 1)}, nil
	}
	return nil, fault.New(fault.Usage, "unknown optimizer %q", o.Method).
		WithHint("known: adamw, sgd, lion, adafactor, muon, lamb, shampoo, row-col, pair")
}

// Schedule is the course of the learning rate after the warm-up.
type Schedule string

// The schedules, as transformers computes them.
const (
	Constant Schedule = "constant"
	Linear   Schedule = "linear" // to zero
	Cosine   Schedule = "cosine" // half a wave, to zero
)

// factor is the multiple of the learning rate at a step, from 0 on. With a
// warm-up the first step has rate zero.
func (s Schedule) factor(step, warmup, steps int) float64 {
	if step < warmup {
		return float64(step) / float64(max(1, warmup))
	}
	done := float64(step-warmup) / float64(max(1, steps-warmup))
	switch s {
	case Linear:
		return math.Max(0, 1-done)
	case Cosine:
		return math.Max(0, 0.5*(1+math.Cos(math.Pi*done)))
	}
	return 1
}
