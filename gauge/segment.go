package gauge

// extend appends a segment, joining it to the last one where that goes on: with
// the same class, with the next class, or with the next class every few
// elements. A segment that repeats one class has Div equal to Count.
func extend(out []Segment, s Segment) []Segment {
	k := len(out) - 1
	if k < 0 {
		return append(out, s)
	}
	p := &out[k]
	if p.Group != s.Group || p.Coef != s.Coef || p.Start+p.Count != s.Start {
		return append(out, s)
	}
	steps := (p.Count + p.Div - 1) / p.Div // classes of p, the last perhaps cut short
	last := p.Count - (steps-1)*p.Div      // elements of the last one
	constant := s.Div >= s.Count
	switch {
	case constant && s.First == p.First+steps-1 && steps == 1:
		p.Count += s.Count
		p.Div = p.Count
	case constant && s.First == p.First+steps-1 && last+s.Count <= p.Div:
		p.Count += s.Count
	case s.First == p.First+steps && last == p.Div && (constant && s.Count <= p.Div || s.Div == p.Div):
		p.Count += s.Count
	default:
		return append(out, s)
	}
	return out
}
