package main

import (
	"reflect"
	"testing"
)

// meter records the figures at which stages end.
type meter struct {
	done    int64
	ends    []int64
	stopped bool
}

func (m *meter) Stage(string, int64) { m.ends, m.done = append(m.ends, m.done), 0 }
func (m *meter) Add(n int64)         { m.done += n }
func (m *meter) Stop()               { m.ends, m.stopped = append(m.ends, m.done), true }

// TestStages: completed stages end at their total, whatever was added; one
// that failed keeps what it had; without a total nothing is cut off.
func TestStages(t *testing.T) {
	for _, c := range []struct {
		ok   bool
		want []int64
	}{
		{true, []int64{0, 100, 50, 7, 40}},
		{false, []int64{0, 100, 50, 7, 30}},
	} {
		m := &meter{}
		s := &stages{to: m}
		s.Stage("above", 100)
		s.Add(80)
		s.Add(80)
		s.Stage("below", 50)
		s.Add(10)
		s.Stage("unknown", 0)
		s.Add(7)
		s.Stage("last", 40)
		s.Add(30)
		s.end(c.ok)
		if !reflect.DeepEqual(m.ends, c.want) || !m.stopped {
			t.Errorf("ok %v: stages end at %v, want %v", c.ok, m.ends, c.want)
		}
	}
}
