package pt2

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/neuroseal/neuroseal/internal/fold"
)

// The parts of torch.export's JSON schema that a graph needs; source:
// torch/_export/serde/schema.py. Versions 5 to 8 are known: torch 2.5 to 2.15.

const (
	oldestSchema = 5
	newestSchema = 8
)

type exportedProgram struct {
	GraphModule struct {
		Graph     *graphJSON `json:"graph"`
		Signature struct {
			Inputs  []map[string]json.RawMessage `json:"input_specs"`
			Outputs []map[string]json.RawMessage `json:"output_specs"`
		} `json:"signature"`
	} `json:"graph_module"`
	Schema struct {
		Major int `json:"major"`
		Minor int `json:"minor"`
	} `json:"schema_version"`
	Torch string `json:"torch_version"`
}

type graphJSON struct {
	Inputs  []argument            `json:"inputs"`
	Outputs []argument            `json:"outputs"`
	Nodes   []nodeJSON            `json:"nodes"`
	Tensors map[string]tensorMeta `json:"tensor_values"`
	SymInts map[string]symbol     `json:"sym_int_values"`
	SymBool map[string]symbol     `json:"sym_bool_values"`
	SymReal map[string]symbol     `json:"sym_float_values"`
}

type nodeJSON struct {
	Target string `json:"target"`
	Inputs []struct {
		Name string   `json:"name"`
		Arg  argument `json:"arg"`
	} `json:"inputs"`
	Outputs  []argument `json:"outputs"`
	Metadata struct {
		Stack string `json:"nn_module_stack"`
	} `json:"metadata"`
}

// argument is a tagged union: one key, which names the type.
type argument map[string]json.RawMessage

type tensorMeta struct {
	DType int      `json:"dtype"`
	Sizes []symbol `json:"sizes"`
	// Strides and offset matter only for payloads, which share storages.
	Strides []symbol `json:"strides"`
	Offset  symbol   `json:"storage_offset"`
}

// symbol is a number that is known, or an expression with the value that it
// had while the program was exported.
type symbol struct {
	Int   *int64 `json:"as_int"`
	Bool  *bool  `json:"as_bool"`
	Float *float `json:"as_float"`
	Expr  *struct {
		Text string  `json:"expr_str"`
		Hint *symbol `json:"hint"`
	} `json:"as_expr"`
}

// number returns the value, or that of the hint.
func (s symbol) number() (float64, bool) {
	switch {
	case s.Int != nil:
		return float64(*s.Int), true
	case s.Bool != nil:
		if *s.Bool {
			return 1, true
		}
		return 0, true
	case s.Float != nil:
		return float64(*s.Float), true
	case s.Expr != nil && s.Expr.Hint != nil && s.Expr.Hint.Expr == nil:
		return s.Expr.Hint.number()
	}
	return 0, false
}

// float also reads the words with which the exporter writes what JSON lacks.
type float float64

func (f *float) UnmarshalJSON(b []byte) error {
	s := string(b)
	if len(b) > 1 && b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	*f = float(v)
	return err
}

// sizes turns a shape into integers.
func (m tensorMeta) sizes() ([]int, error) { return dims(m.Sizes) }

func dims(list []symbol) ([]int, error) {
	out := make([]int, len(list))
	total := 1.0
	for i, s := range list {
		v, ok := s.number()
		if !ok || v < 0 || v != math.Trunc(v) || v > maxElements {
			return nil, fmt.Errorf("an axis has no fixed length, but one that depends on the input (experts of transformers 4 are looped over; 5 computes them otherwise)")
		}
		out[i] = int(v)
		total *= math.Max(v, 1)
	}
	if total > maxElements {
		return nil, fmt.Errorf("shape %v has more than 2^40 elements", out)
	}
	return out, nil
}

// maxElements bounds any value's size: shapes above it are no network's.
const maxElements = 1 << 40

// Element types by their number in the schema.
const (
	typeBool         = 12
	typeComplexHalf  = 9
	typeComplexFloat = 10
	typeComplex      = 11
)

// kindOf maps an element type to that of a constant; reduced precision counts
// as float32, since a graph has no precision of its own.
func kindOf(dtype int) (k fold.Kind, ok bool) {
	switch dtype {
	case typeBool:
		return fold.Bool, true
	case 1, 2, 3, 4, 5, 28, 34, 35:
		return fold.Int, true
	case 6, 7, 13, typeComplexHalf, typeComplexFloat:
		return fold.Float, true
	case 8, typeComplex:
		return fold.Double, true
	}
	return 0, false
}
