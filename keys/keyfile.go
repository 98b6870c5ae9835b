package keys

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// keyPrefix is the Bech32 prefix of a seal key, in lower case.
const keyPrefix = "neuroseal-secret-key-"

// maxKeyFile bounds how much of a key, recipients or identity file is read.
const maxKeyFile = 1 << 20

// encode returns the key as the line that a key file holds.
func (k SealKey) encode() string { return strings.ToUpper(bech32Encode(keyPrefix, k[:])) }

// WriteKeyFile makes a key file that only its owner may read; it is visible only
// when it is on the disk, whole. It never replaces a file: the key in there may
// be the only one that opens a seal. Comments become lines starting with "# ".
func WriteKeyFile(path string, k SealKey, comments ...string) error {
	if _, err := os.Lstat(path); err == nil {
		return fault.New(fault.Usage, "key file %s exists already", path).
			WithHint("choose another name, or move the old key away if no sealed model needs it")
	}
	const replace = false // so that a file made since then is safe too
	if err := atomicdir.WriteFile(path, marshalKeyFile(k, comments), 0o600, replace); err != nil {
		return fault.Wrap(fault.KindOf(err), err, "writing key file")
	}
	return nil
}

func marshalKeyFile(k SealKey, comments []string) []byte {
	var b bytes.Buffer
	for _, c := range comments {
		for line := range strings.Lines(c) {
			fmt.Fprintf(&b, "# %s\n", strings.TrimRight(line, "\r\n"))
		}
	}
	b.WriteString(k.encode() + "\n")
	return b.Bytes()
}

// ReadKeyFile reads the seal key of a key file. The warning, if not empty, says
// that others may read the file too; the key is good all the same.
func ReadKeyFile(path string) (k SealKey, warning string, err error) {
	data, mode, err := readSecretFile(path, "key file")
	if err != nil {
		return SealKey{}, "", err
	}
	if k, err = parseKeyFile(path, data); err != nil {
		return SealKey{}, "", err
	}
	if runtime.GOOS != "windows" && mode.IsRegular() && mode.Perm()&0o044 != 0 {
		warning = fmt.Sprintf("key file %s can be read by other users (mode %04o): chmod 600 %s", path, mode.Perm(), path)
	}
	return k, warning, nil
}

// readSecretFile reads a small file that may hold a secret.
func readSecretFile(path, what string) ([]byte, fs.FileMode, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fault.Wrap(fault.General, fs.ErrNotExist, "%s %s", what, path).WithHint("check the path")
	}
	if err != nil {
		return nil, 0, fault.Wrap(fault.General, err, "opening %s", what)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, fault.Wrap(fault.General, err, "reading %s", what)
	}
	if info.IsDir() {
		return nil, 0, fault.New(fault.General, "%s %s is a folder", what, path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, 0, fault.Wrap(fault.General, err, "reading %s %s", what, path)
	}
	if len(data) > maxKeyFile {
		return nil, 0, fault.New(fault.General, "%s %s is longer than %d bytes, so it is something else", what, path, maxKeyFile)
	}
	return data, info.Mode(), nil
}

// parseKeyFile accepts comments, empty lines and exactly one key. Errors name
// the line and never quote it.
func parseKeyFile(path string, data []byte) (SealKey, error) {
	var key SealKey
	found := 0
	sc := bufio.NewScanner(bytes.NewReader(data))
	sc.Buffer(nil, maxKeyFile+1)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		k, err := parseKeyLine(line)
		if err != nil {
			err.Msg = fmt.Sprintf("key file %s, line %d: %s", path, n, err.Msg)
			return SealKey{}, err
		}
		if found > 0 {
			return SealKey{}, fault.New(fault.WrongKey, "key file %s, line %d: a second key (the first is on line %d)", path, n, found).
				WithHint("keep one key per file")
		}
		key, found = k, n
	}
	if err := sc.Err(); err != nil {
		return SealKey{}, fault.Wrap(fault.General, err, "reading key file %s", path)
	}
	if found == 0 {
		return SealKey{}, fault.New(fault.WrongKey, "key file %s holds no key", path).
			WithHint("a key file has one line that begins with %s1", strings.ToUpper(keyPrefix))
	}
	return key, nil
}

func parseKeyLine(line string) (SealKey, *fault.Error) {
	upper := strings.ToUpper(line)
	switch {
	case strings.HasPrefix(upper, "AGE-SECRET-KEY-"), strings.HasPrefix(upper, "AGE-PLUGIN-"):
		return SealKey{}, fault.New(fault.WrongKey, "this is an age identity, not a seal key").
			WithHint("give the file as an identity: it opens keyslots that were made for its recipient")
	case strings.HasPrefix(upper, "-----BEGIN"):
		return SealKey{}, fault.New(fault.WrongKey, "this is a PEM or age file, not a seal key").
			WithHint("give a private key as an identity: it opens keyslots that were made for its recipient")
	case strings.HasPrefix(upper, "AGE1"), strings.HasPrefix(upper, "SSH-"):
		return SealKey{}, fault.New(fault.WrongKey, "this is a public key, not a seal key").
			WithHint("give public keys as recipients")
	case !strings.HasPrefix(upper, strings.ToUpper(keyPrefix)):
		return SealKey{}, fault.New(fault.WrongKey, "not a seal key").
			WithHint("a key file has one line that begins with %s1", strings.ToUpper(keyPrefix))
	}
	hrp, data, err := bech32Decode(line)
	if err == nil && (hrp != keyPrefix || len(data) != Size) {
		err = errBech32Length
	}
	if err != nil {
		return SealKey{}, fault.Wrap(fault.WrongKey, err, "damaged seal key").
			WithHint("compare the line with the copy it came from, or take a backup")
	}
	return SealKey(data), nil
}
