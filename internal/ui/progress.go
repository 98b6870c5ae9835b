package ui

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	refresh   = 200 * time.Millisecond // of a bar
	patience  = time.Second            // what is over sooner is not shown
	lineEvery = 10 * time.Second       // between two lines about one stage
	jsonEvery = time.Second            // between two JSON lines about one stage
)

// Progress shows how far an operation has come: as a bar on a terminal, else
// in a few lines, or as JSON lines. It implements the library's Progress.
type Progress struct {
	u    *UI
	now  func() time.Time
	done atomic.Int64

	mu      sync.Mutex
	stage   string
	total   int64
	began   time.Time // of the stage
	shown   time.Time // last line about the stage; zero: none
	stop    chan struct{}
	stopped chan struct{}

	drawn bool // a bar stands on the terminal; guarded by UI.mu
}

// Progress begins to show an operation. Stop must be called at its end.
func (u *UI) Progress() *Progress {
	p := &Progress{u: u, now: time.Now, stop: make(chan struct{}), stopped: make(chan struct{})}
	u.mu.Lock()
	u.bar = p
	u.mu.Unlock()
	go p.run(p.stop)
	return p
}

// run shows the progress now and then.
func (p *Progress) run(stop <-chan struct{}) {
	defer close(p.stopped)
	t := time.NewTicker(refresh)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			p.show()
		}
	}
}

// Stage begins a new stage of total bytes; 0 if nobody knows how many.
func (p *Progress) Stage(name string, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finish()
	p.stage, p.total, p.began, p.shown = name, total, p.now(), time.Time{}
	p.done.Store(0)
	p.report()
}

// Add says that n more bytes are done.
func (p *Progress) Add(n int64) { p.done.Add(n) }

// Stop ends the showing and clears the bar away. A second call does nothing.
func (p *Progress) Stop() {
	p.mu.Lock()
	if p.stop == nil {
		p.mu.Unlock()
		return
	}
	close(p.stop)
	p.stop = nil
	p.finish()
	p.mu.Unlock()
	<-p.stopped
	p.u.mu.Lock()
	defer p.u.mu.Unlock()
	p.clear()
	if p.u.bar == p {
		p.u.bar = nil
	}
}

// finish gives a program the last figures of a stage.
func (p *Progress) finish() {
	if p.stage != "" {
		p.report()
	}
}

// step is a progress report as a JSON line.
type step struct {
	Type    string  `json:"type"` // progress
	Stage   string  `json:"stage"`
	Done    int64   `json:"done"`  // bytes
	Total   int64   `json:"total"` // bytes; 0: unknown
	Seconds float64 `json:"seconds"`
}

// report writes a JSON line about the stage.
func (p *Progress) report() {
	if p.u.JSON && !p.u.Quiet {
		p.shown = p.now()
		p.u.event(step{"progress", p.stage, p.done.Load(), p.total, p.now().Sub(p.began).Seconds()})
	}
}

// show is called at every tick.
func (p *Progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.u.Quiet || p.stage == "" {
		return
	}
	now := p.now()
	switch {
	case p.u.JSON:
		if now.Sub(p.shown) >= jsonEvery {
			p.report()
		}
	case now.Sub(p.began) < patience:
	case p.u.err.width > 0:
		p.draw(p.line(now, p.u.err.width-1))
	case p.shown.IsZero() || now.Sub(p.shown) >= lineEvery:
		p.shown = now
		p.u.toErr("neuroseal: " + p.line(now, 0) + "\n")
	}
}

// line describes the stage, with a bar if that fits into width columns.
func (p *Progress) line(now time.Time, width int) string {
	done, spent := p.done.Load(), now.Sub(p.began)
	text := Clean(p.stage)
	if p.total > 0 {
		text += fmt.Sprintf(" %3.0f%%", 100*min(float64(done)/float64(p.total), 1))
	}
	text += fmt.Sprintf("  %s", Bytes(done))
	if p.total > 0 {
		text += " of " + Bytes(p.total)
	}
	if rate := float64(done) / spent.Seconds(); done > 0 && spent > 0 {
		text += fmt.Sprintf("  %s/s", Bytes(int64(rate)))
		if left := float64(p.total - done); left > 0 {
			text += fmt.Sprintf("  %s left", Duration(time.Duration(left/rate*float64(time.Second))))
		}
	}
	if width == 0 {
		return text
	}
	if r := []rune(text); len(r) > width {
		return string(r[:width])
	}
	return text + p.bar(width-len([]rune(text))-4, done)
}

// bar draws a bar of at most 30 columns.
func (p *Progress) bar(columns int, done int64) string {
	columns = min(columns, 30)
	if columns < 8 || p.total <= 0 {
		return ""
	}
	full := int(float64(columns) * min(float64(done)/float64(p.total), 1))
	return "  [" + strings.Repeat("#", full) + strings.Repeat(".", columns-full) + "]"
}

func (p *Progress) draw(line string) {
	p.u.mu.Lock()
	defer p.u.mu.Unlock()
	_, _ = fmt.Fprint(p.u.err.w, "\r"+line+"\x1b[K")
	p.drawn = true
}

// clear wipes the bar from the terminal. The caller holds UI.mu.
func (p *Progress) clear() {
	if p.drawn {
		_, _ = fmt.Fprint(p.u.err.w, "\r\x1b[K")
		p.drawn = false
	}
}
