package jobs

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

var identityForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// identity returns the random name of the run whose folder this is. It is made
// once and kept, so that a program that goes on after a crash finds its jobs
// again, and two users of a cluster with equal paths do not find each other's.
// The folder is its owner's alone: scripts in it may hold secrets of jobs'
// environments.
func identity(folder string) (string, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", fault.Wrap(fault.General, err, "making the run folder")
	}
	if err := os.MkdirAll(filepath.Join(folder, "logs"), 0o700); err != nil {
		return "", fault.Wrap(fault.General, err, "making the run folder")
	}
	path := filepath.Join(folder, "run-id")
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = atomicdir.WriteFile(path, []byte(randomName(8)+"\n"), 0o600, false)
		if err == nil || fault.KindOf(err) == fault.Usage { // another process was faster
			b, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return "", fault.Wrap(fault.General, err, "reading the run's identity")
	}
	id := strings.TrimSpace(string(b))
	if !identityForm.MatchString(id) {
		return "", fault.New(fault.General, "%s does not hold a run's identity (16 hexadecimal digits)", path).
			WithHint("take another run folder, or remove the file if no job of the run is under way")
	}
	return id, nil
}

// randomName returns 2n random hexadecimal digits.
func randomName(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// openLog opens a job's log to append to: what a lost try printed stays.
func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

// appendLog adds text to a job's log.
func appendLog(path, text string) error {
	f, err := openLog(path)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
