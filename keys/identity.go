package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/neuroseal/neuroseal/internal/fault"
)

const identityForms = "an identity file is an age identity file (lines AGE-SECRET-KEY-1…), " +
	"possibly encrypted with a passphrase, or an SSH private key (ed25519 or RSA)"

// ParseIdentities reads the private keys of a file: age identities, one per
// line, such a file encrypted with a passphrase, or an SSH private key. pass is
// asked for the passphrase of an encrypted file, with a prompt that names it;
// for an SSH key only once a keyslot turns out to be made for it. It may be
// nil if nobody can be asked.
func ParseIdentities(path string, pass func(prompt string) (string, error)) ([]age.Identity, error) {
	data, _, err := readSecretFile(path, "identity file")
	if err != nil {
		return nil, err
	}
	ask := func() (string, error) {
		if pass == nil {
			return "", fault.New(fault.WrongKey, "identity file %s is encrypted, and there is nobody to ask for its passphrase", path)
		}
		return pass("Passphrase of " + path)
	}
	trimmed := bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(data, []byte("age-encryption.org/")):
		// Binary: its last byte may look like a space.
		return encryptedIdentities(path, bytes.NewReader(data), ask)
	case bytes.HasPrefix(trimmed, []byte(armor.Header)):
		return encryptedIdentities(path, armor.NewReader(bytes.NewReader(trimmed)), ask)
	case bytes.HasPrefix(trimmed, []byte("-----BEGIN")):
		return sshIdentities(path, data, ask)
	}
	return ageIdentities(path, data)
}

// ageIdentities parses one identity per line. Errors never quote the line.
func ageIdentities(path string, data []byte) ([]age.Identity, error) {
	var ids []age.Identity
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, err := parseIdentity(line)
		if err != nil {
			return nil, fault.Wrap(fault.WrongKey, err, "identity file %s, line %d", path, n).WithHint(identityForms)
		}
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil, fault.New(fault.WrongKey, "identity file %s holds no identity", path).WithHint(identityForms)
	}
	return ids, nil
}

func parseIdentity(line string) (age.Identity, error) {
	upper := strings.ToUpper(line)
	switch {
	case strings.HasPrefix(upper, "AGE-SECRET-KEY-PQ-1"):
		return age.ParseHybridIdentity(line)
	case strings.HasPrefix(upper, "AGE-SECRET-KEY-1"):
		return age.ParseX25519Identity(line)
	case strings.HasPrefix(upper, "AGE-PLUGIN-"):
		return nil, errors.New("plugin identities are not supported")
	case strings.HasPrefix(upper, strings.ToUpper(keyPrefix)):
		return nil, errors.New("this is a seal key, not an identity: give the file as the key file")
	case strings.HasPrefix(upper, "AGE1"), strings.HasPrefix(upper, "SSH-"):
		return nil, errors.New("this is a public key; an identity is the private key that belongs to it")
	}
	return nil, errors.New("not an identity")
}

// encryptedIdentities opens an age identity file that is itself encrypted with a
// passphrase, as "age-keygen | age -p" writes it.
func encryptedIdentities(path string, src io.Reader, ask func() (string, error)) ([]age.Identity, error) {
	file, err := io.ReadAll(src)
	if err != nil {
		return nil, fault.Wrap(fault.WrongKey, err, "identity file %s", path)
	}
	logN, err := scryptWork(file)
	if err != nil {
		return nil, fault.Wrap(fault.WrongKey, err, "identity file %s", path)
	}
	if logN == 0 {
		return nil, fault.New(fault.WrongKey, "identity file %s is encrypted, but not with a passphrase", path).WithHint(identityForms)
	}
	passphrase, err := ask()
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, errEmptyPassphrase("the passphrase of " + path)
	}
	id.SetMaxWorkFactor(maxWorkFactor)
	r, err := age.Decrypt(bytes.NewReader(file), id)
	if err != nil {
		return nil, fault.New(fault.WrongKey, "the passphrase does not open identity file %s", path)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, fault.Wrap(fault.WrongKey, err, "identity file %s", path)
	}
	return ageIdentities(path, plain)
}

func sshIdentities(path string, pem []byte, ask func() (string, error)) ([]age.Identity, error) {
	id, err := agessh.ParseIdentity(pem)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return lockedSSHIdentity(path, pem, locked.PublicKey, ask)
	}
	if err != nil {
		return nil, fault.Wrap(fault.WrongKey, err, "SSH private key %s", path).WithHint(identityForms)
	}
	return []age.Identity{id}, nil
}

// lockedSSHIdentity prepares an encrypted SSH key. Old PEM files do not tell
// their public key; then the .pub file beside them must.
func lockedSSHIdentity(path string, pem []byte, public ssh.PublicKey, ask func() (string, error)) ([]age.Identity, error) {
	if public == nil {
		data, _, err := readSecretFile(path+".pub", "SSH public key")
		if err != nil {
			return nil, fault.Wrap(fault.WrongKey, err, "SSH private key %s is encrypted in an old format that does not tell its public key", path).
				WithHint("convert it with: ssh-keygen -p -f %s", path)
		}
		if public, _, _, _, err = ssh.ParseAuthorizedKey(data); err != nil {
			return nil, fault.Wrap(fault.WrongKey, err, "SSH public key %s.pub", path)
		}
	}
	id := &lockedIdentity{path: path}
	inner, err := agessh.NewEncryptedSSHIdentity(public, pem, func() ([]byte, error) {
		passphrase, err := ask()
		id.asked, id.askErr = true, err
		return []byte(passphrase), err
	})
	if err != nil {
		return nil, fault.Wrap(fault.WrongKey, err, "SSH private key %s", path)
	}
	id.inner = inner
	return []age.Identity{id}, nil
}

// lockedIdentity turns the failures of an encrypted SSH key into faults, so that
// they are told apart from keyslots that are not for it.
type lockedIdentity struct {
	path   string
	inner  age.Identity
	asked  bool
	askErr error
}

func (l *lockedIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	l.asked = false
	fileKey, err := l.inner.Unwrap(stanzas)
	switch {
	case err == nil || !l.asked || errors.Is(err, age.ErrIncorrectIdentity):
		return fileKey, err
	case l.askErr != nil:
		return nil, asFault(l.askErr, "SSH private key "+l.path)
	}
	return nil, fault.Wrap(fault.WrongKey, err, "SSH private key %s", l.path)
}

// asFault keeps the kind and hint of a fault and gives other errors a place.
func asFault(err error, where string) *fault.Error {
	var f *fault.Error
	if errors.As(err, &f) {
		return f
	}
	return &fault.Error{Kind: fault.General, Msg: fmt.Sprintf("asking for the passphrase of %s", where), Err: err}
}
