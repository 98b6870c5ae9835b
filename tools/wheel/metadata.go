package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// metadata is the METADATA file: core metadata 2.4.
func (w *wheel) metadata() []byte {
	var b bytes.Buffer
	for _, line := range []string{
		"Metadata-Version: 2.4",
		"Name: neuroseal",
		"Version: " + w.version,
		"Summary: Seals open-weight language models by exact powers of two",
		"Author: The NeuroSeal authors",
		"License-Expression: MIT",
		"License-File: LICENSE",
		"License-File: THIRD_PARTY_NOTICES.txt",
		"Keywords: llm,safetensors,gguf,fine-tuning,model-weights",
		"Classifier: Environment :: Console",
		"Classifier: Intended Audience :: Science/Research",
		"Classifier: Operating System :: MacOS",
		"Classifier: Operating System :: Microsoft :: Windows",
		"Classifier: Operating System :: POSIX :: Linux",
		"Classifier: Programming Language :: Go",
		"Classifier: Programming Language :: Python :: 3",
		"Classifier: Topic :: Scientific/Engineering :: Artificial Intelligence",
		"Classifier: Typing :: Typed",
		"Project-URL: Source, https://github.com/neuroseal/neuroseal",
		"Requires-Python: >=3.9",
		"Description-Content-Type: text/markdown",
		"",
	} {
		fmt.Fprintln(&b, line)
	}
	b.Write(w.pkg.readme)
	return b.Bytes()
}

// tags is the WHEEL file: one line for each platform that the file name joins.
func (w *wheel) tags() []byte {
	var b bytes.Buffer
	b.WriteString("Wheel-Version: 1.0\nGenerator: neuroseal tools/wheel\nRoot-Is-Purelib: false\n")
	for _, t := range w.binary.tags {
		fmt.Fprintf(&b, "Tag: py3-none-%s\n", t)
	}
	return b.Bytes()
}

var (
	semantic = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$`)
	stage    = regexp.MustCompile(`^(alpha|beta|rc)\.?(\d+)$`)
	unusual  = regexp.MustCompile(`[^0-9a-z]+`)
)

// pep440 writes a semantic version as Python does: 1.0.0-rc.1 is 1.0.0rc1. What
// is no release becomes a development version with a local part, which the
// package index refuses.
func pep440(version string) (string, error) {
	m := semantic.FindStringSubmatch(version)
	if m == nil {
		return "", fmt.Errorf("-version %q is not a semantic version", version)
	}
	out, local := m[1], m[3]
	if s := stage.FindStringSubmatch(m[2]); s != nil {
		out += map[string]string{"alpha": "a", "beta": "b", "rc": "rc"}[s[1]] + strings.TrimLeft(s[2][:len(s[2])-1], "0") + s[2][len(s[2])-1:]
	} else if m[2] != "" {
		out += ".dev0"
		local = strings.Trim(m[2]+"."+local, ".")
	}
	if local != "" {
		out += "+" + strings.Trim(unusual.ReplaceAllString(strings.ToLower(local), "."), ".")
	}
	return out, nil
}
