// Package python carries the Python side of the TRL engine, so that the command
// starts the very program that it was built with.
package python

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed arena_trl/*.py requirements.txt
var embedded embed.FS

// Files returns the folder that holds the package arena_trl.
func Files() fs.FS { return embedded }

// Requirements returns what the package needs, as pip takes it: name → the
// requirement with its version.
func Requirements() map[string]string {
	raw, err := embedded.ReadFile("requirements.txt")
	if err != nil {
		panic(err) // it is embedded
	}
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if name, _, ok := strings.Cut(line, "=="); ok && !strings.HasPrefix(line, "#") {
			out[name] = line
		}
	}
	return out
}
