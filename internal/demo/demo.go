// Package demo holds the small language model that the demo seals: a Llama of
// 0.8 million parameters whose tokens are bytes, trained by train/train.py on
// the text of package text. model/README.md says what it is.
package demo

import (
	"embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/neuroseal/neuroseal/internal/fault"
)

//go:embed model
var embedded embed.FS

// names lists the model's files in the order of writing. config.json comes
// last: without it no program takes a half-written folder for a checkpoint.
var names = []string{"README.md", "train.json", "generation_config.json", "model.safetensors", "config.json"}

// Files returns the model's folder: config.json, generation_config.json,
// model.safetensors, README.md and train.json, the record of its training.
func Files() fs.FS {
	sub, err := fs.Sub(embedded, "model")
	if err != nil {
		panic(err) // only for an invalid name
	}
	return sub
}

// Write writes the model's files into the folder dir, which it creates, with
// its parents, where it does not exist. It refuses a dir that holds anything
// or is no folder (fault.Usage), and takes back what it wrote if it fails.
func Write(dir string) (err error) {
	if err := refuseOccupied(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fault.Wrap(fault.General, err, "creating the folder for the demo model")
	}
	var written []string
	defer func() {
		if err == nil {
			return
		}
		for _, path := range written {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	for _, name := range names {
		path := filepath.Join(dir, name)
		created, err := writeFile(path, name)
		if created {
			written = append(written, path)
		}
		if err != nil {
			return fault.Wrap(fault.General, err, "writing the demo model")
		}
	}
	return nil
}

func refuseOccupied(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.Wrap(fault.Usage, err, "%s cannot hold the demo model", dir).
			WithHint("name a new or an empty folder")
	case len(entries) > 0:
		return fault.New(fault.Usage, "%s is not empty: it holds %s", dir, entries[0].Name()).
			WithHint("name a new or an empty folder")
	}
	return nil
}

// writeFile creates path with the embedded file's bytes, and reports whether
// it came to creating it. It never replaces a file.
func writeFile(path, name string) (created bool, err error) {
	data, err := embedded.ReadFile("model/" + name)
	if err != nil {
		return false, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	return true, errors.Join(err, f.Close())
}
