package pt2

import (
	"encoding/json"
	"fmt"

	"github.com/neuroseal/neuroseal/internal/fold"
)

// call is one operation of the program with its arguments by the names that
// they have in ATen's schema. A missing argument has its default.
type call struct {
	l      *lowering
	target string
	args   map[string]any // *cell, []*cell, int, float64, bool, string, []int, []float64, nil
	named  []string       // arguments in order, for operations without names
	out    []meta         // what the results must be
}

// meta is the recorded type and shape of a result.
type meta struct {
	name  string
	kind  fold.Kind
	known bool
	dtype int
	shape []int
}

func (c *call) stop(format string, args ...any) {
	c.l.stop("%s: %s", c.target, fmt.Sprintf(format, args...))
}

// has reports whether an argument is given and not None.
func (c *call) has(name string) bool { return c.args[name] != nil }

// t returns a tensor, or a number as a constant.
func (c *call) t(name string) *value {
	switch a := c.args[name].(type) {
	case *cell:
		return c.l.get(a)
	case int:
		return scalar(fold.Int, float64(a))
	case float64:
		return scalar(fold.Float, a)
	case bool:
		if a {
			return scalar(fold.Bool, 1)
		}
		return scalar(fold.Bool, 0)
	}
	c.stop("argument %s is no tensor", name)
	return nil
}

// ts returns a list of tensors, nil for None.
func (c *call) ts(name string) []*value {
	list, ok := c.args[name].([]*cell)
	if !ok {
		c.stop("argument %s is no list of tensors", name)
	}
	out := make([]*value, len(list))
	for i, x := range list {
		if x != nil {
			out[i] = c.l.get(x)
		}
	}
	return out
}

func (c *call) i(name string, def int) int {
	switch a := c.args[name].(type) {
	case nil:
		return def
	case int:
		return a
	case float64:
		return int(a)
	case bool:
		if a {
			return 1
		}
		return 0
	}
	c.stop("argument %s is no integer", name)
	return 0
}

func (c *call) f(name string, def float64) float64 {
	switch a := c.args[name].(type) {
	case nil:
		return def
	case int:
		return float64(a)
	case float64:
		return a
	case bool:
		return float64(c.i(name, 0))
	case *cell:
		if v := c.l.get(a); v.c != nil && v.c.Len() == 1 {
			return v.c.At(0)
		}
	}
	c.stop("argument %s is no number", name)
	return 0
}

func (c *call) flag(name string, def bool) bool {
	if !c.has(name) {
		return def
	}
	return c.i(name, 0) != 0
}

func (c *call) str(name, def string) string {
	if s, ok := c.args[name].(string); ok {
		return s
	}
	return def
}

// ints returns a list of integers; a single one counts as a list.
func (c *call) ints(name string) []int {
	switch a := c.args[name].(type) {
	case nil:
		return nil
	case []int:
		return a
	case int:
		return []int{a}
	}
	c.stop("argument %s is no list of integers", name)
	return nil
}

// axis returns an axis, counted from the front.
func (c *call) axis(name string, def, rank int) int { return c.from(c.i(name, def), rank) }

func (c *call) from(a, rank int) int {
	if a < 0 {
		a += rank
	}
	if a < 0 || a >= max(rank, 1) {
		c.stop("axis %d of %d", a, rank)
	}
	return a
}

// kind returns the element type that an argument asks for.
func (c *call) kind(name string, def fold.Kind) fold.Kind {
	if !c.has(name) {
		return def
	}
	k, ok := kindOf(c.i(name, 0))
	if !ok {
		c.stop("element type %d", c.i(name, 0))
	}
	return k
}

// read turns an argument of the program into a Go value.
func (s *scope) read(a argument) (any, error) {
	for tag, raw := range a {
		switch tag {
		case "as_none":
			return nil, nil
		case "as_tensor":
			var t struct{ Name string }
			if err := json.Unmarshal(raw, &t); err != nil {
				return nil, err
			}
			return s.cell(t.Name)
		case "as_tensors", "as_optional_tensors":
			return s.cells(raw)
		case "as_optional_tensor":
			var in argument
			if err := json.Unmarshal(raw, &in); err != nil {
				return nil, err
			}
			return s.read(in)
		case "as_int", "as_scalar_type", "as_memory_format", "as_layout":
			var v int64
			err := json.Unmarshal(raw, &v)
			return clampInt(v), err
		case "as_ints":
			var list []int64
			err := json.Unmarshal(raw, &list)
			out := make([]int, len(list))
			for i, v := range list {
				out[i] = clampInt(v)
			}
			return out, err
		case "as_float":
			var v float
			err := json.Unmarshal(raw, &v)
			return float64(v), err
		case "as_floats":
			var list []float
			err := json.Unmarshal(raw, &list)
			out := make([]float64, len(list))
			for i, v := range list {
				out[i] = float64(v)
			}
			return out, err
		case "as_bool":
			var v bool
			err := json.Unmarshal(raw, &v)
			return v, err
		case "as_string", "as_operator":
			var v string
			err := json.Unmarshal(raw, &v)
			return v, err
		case "as_sym_int", "as_sym_bool", "as_sym_float":
			return s.symbolic(raw)
		case "as_sym_ints":
			return s.symbolicList(raw)
		case "as_graph":
			var g graphArgument
			err := json.Unmarshal(raw, &g)
			return &g, err
		case "as_device", "as_bools", "as_strings", "as_custom_obj":
			return nil, nil
		}
		return nil, fmt.Errorf("an argument of type %s", tag)
	}
	return nil, nil
}

type graphArgument struct {
	Graph graphJSON `json:"graph"`
}

// clampInt keeps what stands for "to the end" within an int.
func clampInt(v int64) int { return int(max(-1<<60, min(v, 1<<60))) }

// cells reads a list of tensors with holes.
func (s *scope) cells(raw json.RawMessage) (any, error) {
	var list []struct {
		Name   string
		Tensor *struct{ Name string } `json:"as_tensor"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	out := make([]*cell, len(list))
	for i, e := range list {
		if e.Tensor != nil {
			e.Name = e.Tensor.Name
		}
		if e.Name == "" {
			continue
		}
		c, err := s.cell(e.Name)
		if err != nil {
			return nil, err
		}
		out[i] = c
	}
	return out, nil
}

type symbolicArgument struct {
	Name  string   `json:"as_name"`
	Int   *int64   `json:"as_int"`
	Bool  *bool    `json:"as_bool"`
	Float *float64 `json:"as_float"`
}

func (s *scope) symbolic(raw json.RawMessage) (any, error) {
	var a symbolicArgument
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	switch {
	case a.Int != nil:
		return clampInt(*a.Int), nil
	case a.Bool != nil:
		return *a.Bool, nil
	case a.Float != nil:
		return *a.Float, nil
	}
	for _, m := range []map[string]symbol{s.g.SymInts, s.g.SymBool} {
		if v, ok := m[a.Name].number(); ok {
			return clampInt(int64(v)), nil
		}
	}
	if v, ok := s.g.SymReal[a.Name].number(); ok {
		return v, nil
	}
	return nil, fmt.Errorf("the number %s depends on the input's values", a.Name)
}

func (s *scope) symbolicList(raw json.RawMessage) (any, error) {
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, err
	}
	out := make([]int, len(list))
	for i, e := range list {
		v, err := s.symbolic(e)
		if err != nil {
			return nil, err
		}
		n, ok := v.(int)
		if !ok {
			return nil, fmt.Errorf("a list of numbers that are no integers")
		}
		out[i] = n
	}
	return out, nil
}
