// Package manifest is the record of a seal: neuroseal_config.json, which
// stands in the sealed folder. With the key, and without any knowledge of
// architectures, it suffices to undo the seal. Schema: spec/manifest.schema.json.
package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
)

// Name is the manifest's file name, the same as the original tool's.
const Name = "neuroseal_config.json"

// Schema is the version that this package writes.
const Schema = 1

// MaxSize bounds a manifest that is read, in bytes.
const MaxSize = 256 << 20

// Manifest is the record. Sealed, Method and Timestamp are the original
// Python tool's fields.
type Manifest struct {
	Sealed    bool   `json:"sealed"`
	Method    string `json:"method"`
	Timestamp string `json:"timestamp"` // RFC 3339, UTC

	Schema  int    `json:"schema"`
	Tool    string `json:"tool"` // "neuroseal 0.1.0"
	SealID  string `json:"seal_id"`
	Profile string `json:"profile,omitempty"`
	// Scale is the factor of static, the top of dynamic, the bound of gauge.
	Scale     float64  `json:"scale,omitempty"`
	Promise   Promise  `json:"promise"`
	ModelType string   `json:"model_type"`
	Graph     *Graph   `json:"graph,omitempty"` // set when an exported graph described the network
	FreeDims  int      `json:"free_dims"`
	Coverage  float64  `json:"coverage"` // share of the parameters that move
	Notes     []string `json:"notes,omitempty"`

	KeyCheck string `json:"key_check,omitempty"`
	MAC      string `json:"mac,omitempty"`

	OriginalDigest string `json:"original_digest"` // "sha256:…" over all original files

	Keyslots []keys.Slot `json:"keyslots,omitempty"`
	Groups   []Group     `json:"groups"`
	Holes    []Hole      `json:"holes"`
	Permute  *Permute    `json:"permute,omitempty"` // what changed places; nil: nothing
	Patches  []Patch     `json:"patches,omitempty"`
	Files    []File      `json:"files"`
	Tensors  []Tensor    `json:"tensors"`
	// Checksums of every tensor, to name the one in which a file differs.
	Checksums []Checksum `json:"checksums"`
}

// Graph is the file that described the network to the tool.
type Graph struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Promise says where the sealed model computes what the original does.
type Promise struct {
	BitExact []string `json:"bit_exact"` // dtypes of inference: "bf16", "fp32"
	Runs     []string `json:"runs"`      // dtypes in which it stays finite
	// Quantisers that others may apply later with the same result.
	Quantisers []string `json:"quantisers"`
	Reversible bool     `json:"reversible"` // unlock restores every byte
	// Reordered: weights are permuted, and outputs are the original's but for the
	// order in which sums are taken.
	Reordered bool `json:"reordered,omitempty"`
}

// Group is a set of classes and the range of their exponents; the exponents
// themselves come from the key. Block is the length of input blocks on which
// factors are constant, 1 for single channels, 0 where it varies by tensor.
type Group struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Layer   int    `json:"layer"`
	Classes int    `json:"classes"`
	Block   int    `json:"block"`
	Offsets []int  `json:"offsets,omitempty"`
	Lo      int    `json:"lo"`
	Hi      int    `json:"hi"`

	Outliers *Outliers `json:"outliers,omitempty"`
	Signs    bool      `json:"signs,omitempty"` // classes are negative, too, as the key decides
	Draw     int       `json:"draw,omitempty"`  // draws that were thrown away, for they moved nothing
}

// Outliers are classes of a group that lie far from the rest: Count of them at
// exponent Low, and as many at High.
type Outliers struct {
	Count int `json:"count"`
	Low   int `json:"low"`
	High  int `json:"high"`
}

// Hole is a tensor that the seal does not touch.
type Hole struct {
	Tensor string `json:"tensor"`
	Why    string `json:"why"`
}

// Patch is a change to a file other than a shard: at Offset of the sealed
// file, After stands where the original had Before. Of a GGUF's metadata, both
// are the four bytes of an fp32 number in hexadecimal.
type Patch struct {
	Path   string `json:"path"`
	Offset int    `json:"offset"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// File is one file of the sealed folder. A file whose Original is equal was
// copied; one with Original "" does not exist in the original.
type File struct {
	Path         string `json:"path"`
	Size         int64  `json:"size"`
	SHA256       string `json:"sha256"`
	OriginalSize int64  `json:"original_size"`
	Original     string `json:"original_sha256"`
}

// Tensor says which classes move which elements of a tensor.
type Tensor struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	Terms []Term `json:"terms"`
}

// Checksum is a tensor's CRC-32C, in hexadecimal, before and after sealing.
type Checksum struct {
	Tensor   string `json:"tensor"`
	Original string `json:"original"`
	Sealed   string `json:"sealed"`
}

// Term is one summand of a tensor's exponents, along the given axes flattened
// in C order. Each segment is [start, count, group, first, div, coef]: element
// start+i carries coef times the exponent of class first + i/div of the group.
type Term struct {
	Axes     []int    `json:"axes"`
	Segments [][6]int `json:"segments"`
}

// Authenticated returns the bytes that the MAC covers: everything but the MAC
// itself and the keyslots, which may be rewrapped.
func (m *Manifest) Authenticated() []byte {
	c := *m
	c.MAC, c.Keyslots = "", nil
	b, err := json.Marshal(&c)
	if err != nil {
		panic(err) // plain data: cannot fail
	}
	return b
}

// Sign sets the key check and the MAC.
func (m *Manifest) Sign(k keys.SealKey) {
	m.KeyCheck = k.Check()
	m.MAC = k.MAC(m.Authenticated())
}

// Verify tells a wrong key (fault.WrongKey) from a manifest that was changed
// after sealing (fault.Mismatch).
func (m *Manifest) Verify(k keys.SealKey) error {
	if !k.VerifyCheck(m.KeyCheck) {
		return fault.New(fault.WrongKey, "this key does not belong to seal %s", m.SealID)
	}
	if !k.VerifyMAC(m.Authenticated(), m.MAC) {
		return fault.New(fault.Mismatch, "%s was changed after sealing", Name)
	}
	return nil
}

// Marshal writes the manifest for people and machines: indented, with one
// group, file or tensor to a line.
func (m *Manifest) Marshal() []byte {
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err) // plain data: cannot fail
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	var out bytes.Buffer
	out.WriteString("{\n")
	_, _ = dec.Token()
	for first := true; dec.More(); first = false {
		key, _ := dec.Token()
		var v json.RawMessage
		_ = dec.Decode(&v)
		if !first {
			out.WriteString(",\n")
		}
		fmt.Fprintf(&out, "  %q: ", key)
		writeValue(&out, v)
	}
	out.WriteString("\n}\n")
	return out.Bytes()
}

func writeValue(out *bytes.Buffer, v json.RawMessage) {
	var list []json.RawMessage
	if v[0] != '[' || json.Unmarshal(v, &list) != nil || len(list) == 0 || list[0][0] != '{' {
		out.Write(v)
		return
	}
	out.WriteString("[\n")
	for i, e := range list {
		if i > 0 {
			out.WriteString(",\n")
		}
		out.WriteString("    ")
		out.Write(e)
	}
	out.WriteString("\n  ]")
}

// Legacy is the error for a manifest of the original Python tool.
type Legacy struct{ Method string }

func (l Legacy) Error() string {
	return fmt.Sprintf("sealed by the original Python tool (method %q)", l.Method)
}

// Parse reads a manifest. The original tool's three fields alone give a Legacy
// error; a newer schema, or data that contradicts itself, is refused.
func Parse(data []byte) (*Manifest, error) {
	if len(data) > MaxSize {
		return nil, fault.New(fault.Mismatch, "%s: %d bytes; at most %d are read", Name, len(data), MaxSize)
	}
	m := new(Manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s: not a manifest", Name)
	}
	switch {
	case m.Schema == 0 && (m.Sealed || m.Method != ""):
		return nil, Legacy{m.Method}
	case m.Schema == 0:
		return nil, fault.New(fault.Mismatch, "%s: not a manifest: it has no schema version", Name)
	case m.Schema < 0 || m.Schema > Schema:
		return nil, fault.New(fault.Unsupported, "%s: schema %d; this version reads up to %d", Name, m.Schema, Schema).
			WithHint("a newer neuroseal wrote it: use that one")
	}
	return m, m.check()
}

// check refuses what no honest writer produces, before anything trusts it.
func (m *Manifest) check() error {
	seen := map[string]bool{}
	for _, f := range m.Files {
		if seen[f.Path] || !local(f.Path) {
			return fault.New(fault.Mismatch, "%s: file %q is listed twice or leaves the folder", Name, f.Path)
		}
		seen[f.Path] = true
	}
	for _, p := range m.Patches {
		if !seen[p.Path] || p.Offset < 0 {
			return fault.New(fault.Mismatch, "%s: a patch names file %q, offset %d", Name, p.Path, p.Offset)
		}
	}
	seen = map[string]bool{}
	for _, t := range m.Tensors {
		if seen[t.Name] {
			return fault.New(fault.Mismatch, "%s: tensor %q is listed twice", Name, t.Name)
		}
		seen[t.Name] = true
		for _, n := range t.Shape {
			if n < 0 {
				return fault.New(fault.Mismatch, "%s: tensor %q has shape %v", Name, t.Name, t.Shape)
			}
		}
	}
	return nil
}
