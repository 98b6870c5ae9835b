package keys

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Recipient is somebody for whom a seal key can be wrapped.
type Recipient struct {
	// Public is the public key as it appears in keyslots: age1…, or the type
	// and body of an SSH key without its comment, which often names a person
	// and a machine.
	Public string

	age age.Recipient
}

const recipientForms = "a recipient is an age public key (age1…, or post-quantum age1pq1…), " +
	"an SSH public key (ssh-ed25519 …, ssh-rsa …), or the path of a file with one of these per line"

// ParseRecipients reads recipients as given on a command line: public keys, or
// paths of files that hold one per line (empty lines and lines starting with
// "#" are skipped). Recipients named twice are returned once.
func ParseRecipients(args ...string) ([]Recipient, error) {
	var all []Recipient
	seen := make(map[string]bool)
	for _, arg := range args {
		rs, err := parseRecipientArg(strings.TrimSpace(arg))
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			if !seen[r.Public] {
				seen[r.Public] = true
				all = append(all, r)
			}
		}
	}
	return all, nil
}

func parseRecipientArg(arg string) ([]Recipient, error) {
	if looksLikeKey(arg) {
		r, err := parseRecipient(arg)
		if err != nil {
			return nil, fault.Wrap(fault.Usage, err, "recipient").WithHint(recipientForms)
		}
		return []Recipient{r}, nil
	}
	if name, service, ok := accountName(arg); ok {
		return nil, fault.New(fault.Usage, "recipient %q: names of %s accounts are not supported", name, service).
			WithHint("fetch the account's public keys into a file and give its path; " + recipientForms)
	}
	rs, err := readRecipientsFile(arg)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Usage, "recipient %q is neither a public key nor a file", arg).WithHint(recipientForms)
	}
	return rs, err
}

// looksLikeKey reports whether arg is a key rather than a path, secret keys
// included: those are then refused without being quoted.
func looksLikeKey(arg string) bool {
	for _, prefix := range []string{"age1", "ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-", "age-secret-key-", "age-plugin-", keyPrefix, "-----begin"} {
		if len(arg) >= len(prefix) && strings.EqualFold(arg[:len(prefix)], prefix) {
			return true
		}
	}
	return false
}

func accountName(arg string) (name, service string, ok bool) {
	for _, service := range []string{"github", "gitlab", "hf"} {
		if strings.HasPrefix(arg, service+":") {
			return arg, service, true
		}
	}
	return "", "", false
}

// parseRecipient parses one public key. Its errors quote nothing that could be
// a secret.
func parseRecipient(s string) (Recipient, error) {
	lower := strings.ToLower(s)
	switch {
	case strings.HasPrefix(lower, "age-"), strings.HasPrefix(lower, keyPrefix), strings.HasPrefix(lower, "-----begin"):
		return Recipient{}, errors.New("this is a secret key; a recipient is a public key")
	case strings.HasPrefix(lower, "ssh-ed25519 "), strings.HasPrefix(lower, "ssh-rsa "):
		return parseSSHRecipient(s)
	case strings.HasPrefix(lower, "age1pq1"):
		r, err := age.ParseHybridRecipient(s)
		if err != nil {
			return Recipient{}, err
		}
		return Recipient{Public: r.String(), age: r}, nil
	case strings.HasPrefix(lower, "age1") && strings.Count(lower, "1") == 1:
		r, err := age.ParseX25519Recipient(s)
		if err != nil {
			return Recipient{}, err
		}
		return Recipient{Public: r.String(), age: r}, nil
	case strings.HasPrefix(lower, "age1"):
		name, _, _ := strings.Cut(strings.TrimPrefix(lower, "age1"), "1")
		return Recipient{}, fmt.Errorf("age recipients of type %.20q need a plugin, which is not supported", name)
	case strings.HasPrefix(lower, "ssh-"), strings.HasPrefix(lower, "ecdsa-"), strings.HasPrefix(lower, "sk-"):
		name, _, _ := strings.Cut(s, " ")
		return Recipient{}, fmt.Errorf("SSH keys of type %.40q cannot be used for encryption; ssh-ed25519 and ssh-rsa can", name)
	}
	return Recipient{}, errors.New("not a public key")
}

func parseSSHRecipient(s string) (Recipient, error) {
	r, err := agessh.ParseRecipient(s)
	if err != nil {
		return Recipient{}, err
	}
	f := strings.Fields(s)
	if len(f) < 2 {
		return Recipient{}, errors.New("malformed SSH public key")
	}
	return Recipient{Public: f[0] + " " + f[1], age: r}, nil
}

func readRecipientsFile(path string) ([]Recipient, error) {
	data, _, err := readSecretFile(path, "recipients file")
	if err != nil {
		return nil, err
	}
	var rs []Recipient
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parseRecipient(line)
		if err != nil {
			return nil, fault.Wrap(fault.Usage, err, "recipients file %s, line %d", path, n).WithHint(recipientForms)
		}
		rs = append(rs, r)
	}
	if len(rs) == 0 {
		return nil, fault.New(fault.Usage, "recipients file %s names nobody", path).WithHint(recipientForms)
	}
	return rs, nil
}
