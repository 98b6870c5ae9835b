package main

import (
	"os"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// keepOut refuses files of secrets that lie in a folder, by any path, be it
// through symbolic links; why says what would become of them. What is no folder
// holds none.
func keepOut(dir, why string, secrets ...string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil
	}
	for _, path := range secrets {
		if path == "" {
			continue
		}
		in, err := inside(path, dir)
		if err != nil {
			return err
		}
		if in {
			return fault.New(fault.Usage, "%s lies in %s, %s", path, dir, why).
				WithHint("move it out of there")
		}
	}
	return nil
}

// secrets are the files that the options name and that nobody else may get.
func (o *signingOptions) secrets() []string { return append(o.Password.secrets(), o.Key) }

func (p *password) secrets() []string {
	if p.File == nil {
		return nil
	}
	return []string{*p.File}
}

// secrets are the files that lock must not copy into the sealed model.
func (o *lockOptions) secrets() []string {
	return append(append(o.Sign.secrets(), o.Slots.Password.secrets()...), o.KeyFile)
}
