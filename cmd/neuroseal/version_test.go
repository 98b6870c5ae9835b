package main

import (
	"runtime/debug"
	"testing"
)

// TestVersionFromBuild: what a binary says of its origin is what the go command
// wrote into it.
func TestVersionFromBuild(t *testing.T) {
	for name, c := range map[string]struct {
		main     string
		settings []debug.BuildSetting
		want     versionJSON
	}{
		"go install at a tag":    {"v0.1.0", nil, versionJSON{Module: "v0.1.0"}},
		"go install at a commit": {"v0.1.1-0.20261123181546-151bd4f1fe53", nil, versionJSON{Module: "v0.1.1-0.20261123181546-151bd4f1fe53"}},
		"go build without git":   {"(devel)", nil, versionJSON{}},
		"go build in a clone": {"v0.1.0+dirty", []debug.BuildSetting{{Key: "vcs.revision", Value: "151bd4f"}, {Key: "vcs.modified", Value: "true"}},
			versionJSON{Module: "v0.1.0+dirty", Revision: "151bd4f", Modified: true}},
		"a test": {"", nil, versionJSON{}},
	} {
		var v versionJSON
		v.from(&debug.BuildInfo{Main: debug.Module{Version: c.main}, Settings: c.settings})
		if v != c.want {
			t.Errorf("%s: %+v, want %+v", name, v, c.want)
		}
	}
}
