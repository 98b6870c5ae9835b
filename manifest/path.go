package manifest

import (
	"path/filepath"
	"strings"
)

// local reports whether a slash-separated path stays inside its folder on
// every system.
func local(p string) bool {
	return !strings.ContainsAny(p, "\\:\x00") && filepath.IsLocal(filepath.FromSlash(p))
}

// Revert undoes the patches of one file: at every offset, After must stand
// where the seal put it. Patches of a file are recorded in rising order.
func (m *Manifest) Revert(path string, sealed []byte) ([]byte, bool) {
	var out []byte
	at := 0
	for _, p := range m.Patches {
		if p.Path != path {
			continue
		}
		if p.Offset < at || p.Offset > len(sealed)-len(p.After) {
			return nil, false
		}
		end := p.Offset + len(p.After)
		if string(sealed[p.Offset:end]) != p.After {
			return nil, false
		}
		out = append(append(out, sealed[at:p.Offset]...), p.Before...)
		at = end
	}
	return append(out, sealed[at:]...), true
}

// Patched reports whether a file has patches.
func (m *Manifest) Patched(path string) bool {
	for _, p := range m.Patches {
		if p.Path == path {
			return true
		}
	}
	return false
}
