package neuroseal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/manifest"
)

// patchEpsilons returns config.json with the given keys multiplied by
// 4^(coef·n), and the patches that did it, in rising order of offset. All
// other bytes stay as they are.
func patchEpsilons(conf []byte, moves []gauge.EpsMove, n int) ([]byte, []manifest.Patch, error) {
	factor := map[string]int{}
	for _, m := range moves {
		factor[m.Key] += m.Coef * n
	}
	var patches []manifest.Patch
	err := topLevel(arch.PlainJSON(conf), func(key string, start, end int) error {
		e, ok := factor[key]
		if !ok || e == 0 {
			return nil
		}
		before := string(conf[start:end])
		v, err := strconv.ParseFloat(before, 64)
		if err != nil {
			return fmt.Errorf("config.json: %s is %s, not a number", key, before)
		}
		scaled := math.Ldexp(v, 2*e)
		if math.Ldexp(scaled, -2*e) != v || math.IsInf(scaled, 0) {
			return fmt.Errorf("config.json: %s × 4^%d leaves the range of floating point", key, e)
		}
		patches = append(patches, manifest.Patch{Path: "config.json", Before: before, After: number(scaled)})
		patches[len(patches)-1].Offset = start // in the original; shifted below
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	var out bytes.Buffer
	at := 0
	for i := range patches {
		p := &patches[i]
		out.Write(conf[at:p.Offset])
		at = p.Offset + len(p.Before)
		p.Offset = out.Len()
		out.WriteString(p.After)
	}
	out.Write(conf[at:])
	return out.Bytes(), patches, nil
}

// number writes a float as Python does, so that it is read back as a float.
func number(v float64) string {
	s := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(s, ".en") {
		s += ".0"
	}
	return s
}

// topLevel visits the keys of a JSON object with the byte range of each value.
func topLevel(data []byte, visit func(key string, start, end int) error) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("config.json: not a JSON object")
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return fmt.Errorf("config.json: %w", err)
		}
		key, _ := t.(string)
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return fmt.Errorf("config.json: %w", err)
		}
		end := int(dec.InputOffset())
		if err := visit(key, end-len(v), end); err != nil {
			return err
		}
	}
	return nil
}
