package trl

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

const (
	grace     = 5 * time.Second
	tailLimit = 8 << 10 // of standard error, for an error's text
	lineLimit = 1 << 20
)

// process is a child with a process group of its own, and all its children.
type process struct {
	args []string
	env  []string
	line func([]byte) // a line of standard output
	log  io.Writer    // standard error; may be nil
	// grace is the time between SIGTERM and SIGKILL.
	grace time.Duration
}

// run starts the process and waits for it. A cancelled context asks the whole
// group to end, and kills it if it doesn't.
func (p *process) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, p.args[0], p.args[1:]...)
	cmd.Env = p.env
	ownGroup(cmd)
	cmd.Cancel = func() error { return terminate(cmd.Process) }
	cmd.WaitDelay = p.grace
	last := &tail{to: p.log}
	cmd.Stderr = last
	lines := &lineWriter{f: p.line}
	cmd.Stdout = lines
	// The child ends when this pipe closes, however this process ends.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fault.Wrap(fault.General, err, "starting %s", p.args[0])
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		return fault.Wrap(fault.General, err, "starting %s", p.args[0])
	}
	err = cmd.Wait()
	kill(cmd.Process)
	if ctx.Err() != nil {
		return fault.Wrap(fault.Interrupted, ctx.Err(), "the TRL engine was stopped")
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return p.failed(err, last.text())
	}
	return nil
}

// failed quotes the last thing that was said, which in Python is the error.
func (p *process) failed(err error, said string) error {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	e := fault.Wrap(fault.General, err, "%s: %s", filepath.Base(p.args[0]), strings.TrimSpace(lines[len(lines)-1]))
	if strings.Contains(said, "out of memory") || strings.Contains(said, "can't allocate memory") {
		e = e.WithHint("not enough memory: take a smaller batch or window (a suite of your own), or a smaller model")
	}
	return e
}

// tail keeps the end of what is written.
type tail struct {
	to  io.Writer
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p[max(0, len(p)-tailLimit):]...)
	if n := len(t.buf) - tailLimit; n > 0 {
		t.buf = append(t.buf[:0], t.buf[n:]...)
	}
	if t.to != nil {
		if _, err := t.to.Write(p); err != nil {
			t.to = nil // the log is a courtesy: the trial goes on without
		}
	}
	return len(p), nil
}

func (t *tail) text() string { return string(t.buf) }

// lineWriter hands over lines; those beyond the limit are dropped.
type lineWriter struct {
	f    func([]byte)
	buf  []byte
	skip bool
}

func (w *lineWriter) Write(p []byte) (int, error) {
	for r := bufio.NewReader(bytes.NewReader(p)); ; {
		part, err := r.ReadSlice('\n')
		if w.skip = w.skip || len(w.buf)+len(part) > lineLimit; !w.skip {
			w.buf = append(w.buf, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return len(p), nil
		}
		if !w.skip && w.f != nil {
			w.f(bytes.TrimSpace(w.buf))
		}
		w.buf, w.skip = w.buf[:0], false
	}
}
