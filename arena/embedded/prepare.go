package embedded

import (
	"context"
	"runtime"
	"time"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// prepared is a trial whose model is open and compiled.
type prepared struct {
	e    *Engine
	t    arena.Task
	m    *model
	net  *train.Compiled
	to   train.TrainOptions
	need int64
}

func (e *Engine) prepare(t arena.Task) (*prepared, error) {
	if !t.Trial.Recipe.Runs(arena.EmbeddedEngine) {
		return nil, fault.New(fault.Unsupported, "recipe %s is not for the embedded engine", t.Trial.Recipe.Name)
	}
	m, err := open(trained(t), t.Trial)
	if err != nil {
		return nil, err
	}
	p := &prepared{e: e, t: t, m: m}
	if err := p.compile(); err != nil {
		m.close()
		return nil, err
	}
	return p, nil
}

func (p *prepared) compile() error {
	o, err := p.m.options(p.t.Trial, p.e.workers)
	if err != nil {
		return err
	}
	if p.to, err = trainOptions(p.t.Trial); err != nil {
		return err
	}
	if p.net, err = train.Compile(p.m.net.Graph, o); err != nil {
		return notApplicable(err)
	}
	if err := p.net.TextOnly(); err != nil {
		return err
	}
	need, err := p.net.Memory(p.to)
	if err != nil {
		return notApplicable(err)
	}
	p.need = need.Total()
	if carries(p.t.Trial.Recipe) {
		p.need += carryMemory * p.m.ck.TotalBytes()
	}
	return nil
}

// Memory is what Run takes, in bytes.
func (p *prepared) Memory() int64 { return p.need }

// Close closes the checkpoint.
func (p *prepared) Close() { p.m.close() }

// Run trains.
func (p *prepared) Run(ctx context.Context, report func(int, float64)) (*arena.Result, error) {
	tx, err := p.e.open(ctx, p.t)
	if err != nil {
		return nil, err
	}
	r := &run{t: p.t, m: p.m, net: p.net, to: p.to, tx: tx, workers: p.e.workers, report: report, res: arena.NewResult(p.t.Trial)}
	r.res.Versions["neuroseal"] = p.e.version
	r.res.Versions["go"] = runtime.Version()
	r.res.Versions["platform"] = runtime.GOOS + "/" + runtime.GOARCH
	began := time.Now()
	if carries(p.t.Trial.Recipe) {
		err = r.carry(ctx)
	} else {
		err = r.train(ctx)
	}
	if err != nil {
		return nil, err
	}
	r.res.Seconds = time.Since(began).Seconds()
	return r.res, nil
}
