package gauge

import "testing"

// TestTurns: two operations pin every second variable each, which leaves one
// piece that still knows which of them pinned what.
func TestTurns(t *testing.T) {
	const n = 4 * coarseLimit
	s := &system{}
	s.fresh(n+2, origin{leaf: -1})
	for which := range int32(2) {
		s.why = 7 + which
		for v := 1 + which; v <= n; v += 2 {
			s.zero(variables(v, 1))
		}
		s.tidy()
	}
	b := &s.blocks[0]
	if len(b.pieces) != 3 || b.pieces[0].bound || b.pieces[1].n != n || b.pieces[2].bound || len(s.coarse) != 0 {
		t.Fatalf("%d pieces, the second of %d, want 3 and %d", len(b.pieces), b.pieces[1].n, n)
	}
	if cap(b.pieces) > coarseLimit {
		t.Errorf("room for %d pieces is kept", cap(b.pieces))
	}
	for v := int32(1); v <= n; v++ {
		if p, want := s.piece(v), 8-v%2; len(p.ts) > 0 || p.why(v) != want {
			t.Fatalf("variable %d: pinned by %d, want %d", v, p.why(v), want)
		}
	}
	if !s.isZero(variables(1, n)) || s.isZero(variables(1, n+1)) || s.isZero(variables(0, 2)) {
		t.Error("all but the first and the last variable are zero")
	}
}

// TestStridedBinding: variables bound in columns of a table, as the sum over
// experts does, leave one piece for each row.
func TestStridedBinding(t *testing.T) {
	const rows, cols = 8, 50
	s := &system{}
	s.fresh(rows*cols, origin{leaf: 0})
	for c := range int32(cols) {
		for r := int32(1); r < rows; r++ {
			s.equal(variables(c, 1), variables(r*cols+c, 1))
		}
	}
	if got := len(s.blocks[0].pieces); got != rows {
		t.Errorf("%d pieces, want %d", got, rows)
	}
	for v := range int32(rows * cols) {
		ts := s.resolve(1, variable(v))[0].ts
		if len(ts) != 1 || ts[0] != variable(v % cols)[0] {
			t.Fatalf("variable %d is %v", v, ts)
		}
	}
}
