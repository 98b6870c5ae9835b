package main

import (
	"sync"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/ui"
)

// display is what shows progress; *ui.Progress is one.
type display interface {
	neuroseal.Progress
	Stop()
}

// stages passes progress on such that every stage that is completed ends at
// exactly its total, which is an estimate: a network's run may read a tensor
// twice, or none of an expert that no token chose.
type stages struct {
	to display

	mu    sync.Mutex
	known bool  // the stage has a total
	left  int64 // bytes of it that are not yet shown as done
}

func newStages(u *ui.UI) *stages { return &stages{to: u.Progress()} }

// Stage begins a stage, and so ends the one before.
func (s *stages) Stage(name string, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete()
	s.known, s.left = total > 0, total
	s.to.Stage(name, total)
}

// Add says that n more bytes are done; what goes beyond the total is not shown.
func (s *stages) Add(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known {
		n = min(n, s.left)
		s.left -= n
	}
	s.to.Add(n)
}

func (s *stages) complete() {
	if s.known {
		s.to.Add(s.left)
		s.left = 0
	}
}

// end stops the showing; with ok the last stage was completed.
func (s *stages) end(ok bool) {
	s.mu.Lock()
	if ok {
		s.complete()
	}
	s.mu.Unlock()
	s.to.Stop()
}
