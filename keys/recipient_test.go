package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// sshKey returns an authorized_keys line and the private key in OpenSSH's
// format, encrypted if pass is not empty.
func sshKey(t testing.TB, private crypto.Signer, pass string) (public string, file []byte) {
	t.Helper()
	pub, err := ssh.NewPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if pass == "" {
		block, err = ssh.MarshalPrivateKey(private, "comment")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "comment", []byte(pass))
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))), pem.EncodeToMemory(block)
}

func newEd25519(t testing.TB) crypto.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func newRSA(t testing.TB) crypto.Signer {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func tempFile(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSSHKeys(t *testing.T) {
	k := testKey(1)
	for name, private := range map[string]crypto.Signer{"ed25519": newEd25519(t), "rsa": newRSA(t)} {
		for _, pass := range []string{"", "ssh passphrase"} {
			t.Run(name+"/"+pass, func(t *testing.T) {
				public, file := sshKey(t, private, pass)
				rs, err := ParseRecipients(public + " me@machine")
				if err != nil || len(rs) != 1 || rs[0].Public != public {
					t.Fatalf("%v %v", rs, err)
				}
				slots := []Slot{recipientSlot(t, k, rs...)}
				asked := 0
				ids, err := ParseIdentities(tempFile(t, "id", string(file)), func(string) (string, error) {
					asked++
					return pass, nil
				})
				if err != nil || asked != 0 {
					t.Fatalf("asked %d times: %v", asked, err)
				}
				if got, _, err := Unwrap(slots, ids, nil); err != nil || got != k {
					t.Error(err)
				}
				if (asked > 0) != (pass != "") {
					t.Errorf("asked %d times", asked)
				}
			})
		}
	}
}

func TestEncryptedSSHKeyFails(t *testing.T) {
	public, file := sshKey(t, newEd25519(t), "right")
	rs, err := ParseRecipients(public)
	if err != nil {
		t.Fatal(err)
	}
	mine := []Slot{recipientSlot(t, testKey(1), rs...)}
	others := []Slot{recipientSlot(t, testKey(1), newX25519(t).to)}
	path := tempFile(t, "id", string(file))
	noTerminal := fault.New(fault.Usage, "no terminal")
	for name, c := range map[string]struct {
		slots []Slot
		pass  func(string) (string, error)
		kind  fault.Kind
		says  string
	}{
		"wrong passphrase": {mine, func(string) (string, error) { return "wrong", nil }, fault.WrongKey, path},
		"a fault":          {mine, func(string) (string, error) { return "", noTerminal }, fault.Usage, "no terminal"},
		"another error":    {mine, func(string) (string, error) { return "", errors.New("cancelled") }, fault.General, "cancelled"},
		"nobody to ask":    {mine, nil, fault.WrongKey, "encrypted"},
		"not for this key": {others, func(string) (string, error) { t.Error("asked"); return "", nil }, fault.WrongKey, "no identity opens"},
	} {
		ids, err := ParseIdentities(path, c.pass)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Unwrap(c.slots, ids, nil)
		if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: kind %v: %v", name, fault.KindOf(err), err)
		}
	}
}

// TestOldPEM: encrypted PKCS#1 keys do not tell their public key.
func TestOldPEM(t *testing.T) {
	file := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	path := tempFile(t, "id_rsa", file)
	if _, err := ParseIdentities(path, nil); err == nil || !strings.Contains(fault.HintOf(err), "ssh-keygen") {
		t.Errorf("without .pub: %v", err)
	}
	public, _ := sshKey(t, newRSA(t), "")
	os.WriteFile(path+".pub", []byte(public), 0o644)
	if ids, err := ParseIdentities(path, nil); err != nil || len(ids) != 1 {
		t.Errorf("with .pub: %v", err)
	}
	os.WriteFile(path+".pub", []byte("rubbish"), 0o644)
	if _, err := ParseIdentities(path, nil); err == nil {
		t.Error("with a damaged .pub")
	}
}

func TestParseRecipientsFile(t *testing.T) {
	a, b := newX25519(t).to.Public, newHybrid(t).to.Public
	public, _ := sshKey(t, newEd25519(t), "")
	path := tempFile(t, "team.txt", "# team\n\n"+a+"\r\n  "+public+" ann@host\n"+b+"\n"+a+"\n")
	rs, err := ParseRecipients(a, path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rs {
		got = append(got, r.Public)
	}
	if want := []string{a, public, b}; strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseRecipientsErrors(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecPublic, _ := sshKey(t, ec, "")
	a := newX25519(t)
	secret := a.id.(*age.X25519Identity).String()
	for name, c := range map[string]struct{ arg, says string }{
		"empty":             {"", "neither a public key nor a file"},
		"no such file":      {"/no/such/file", "neither a public key nor a file"},
		"folder":            {t.TempDir(), "is a folder"},
		"github":            {"github:user", "github accounts are not supported"},
		"typo":              {a.to.Public[:20] + "b" + a.to.Public[21:], "malformed"},
		"plugin":            {"age1yubikey1qqqq", "need a plugin"},
		"secret":            {secret, "secret key"},
		"seal key":          {testKey(1).encode(), "secret key"},
		"ecdsa":             {ecPublic, "cannot be used for encryption"},
		"broken ssh":        {"ssh-ed25519 AAAA", "malformed"},
		"bare ssh type":     {"ssh-ed25519", "cannot be used"},
		"empty file":        {tempFile(t, "e", "# nobody\n"), "names nobody"},
		"secret in a file":  {tempFile(t, "s", a.to.Public+"\n"+secret+"\n"), "line 2: this is a secret key"},
		"rubbish in a file": {tempFile(t, "r", "\n\nhello\n"), "line 3: not a public key"},
	} {
		_, err := ParseRecipients(c.arg)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
			continue
		}
		if strings.Contains(err.Error(), secret[20:]) || strings.Contains(err.Error(), testKey(1).encode()[30:]) {
			t.Errorf("%s: %v tells a secret", name, err)
		}
		if name != "folder" && (fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "") {
			t.Errorf("%s: kind %v, hint %q", name, fault.KindOf(err), fault.HintOf(err))
		}
	}
}

func TestParseIdentities(t *testing.T) {
	a, b := newX25519(t), newHybrid(t)
	text := "# created: …\n" + a.id.(*age.X25519Identity).String() + "\n\n" + b.id.(*age.HybridIdentity).String() + "\n"
	ids, err := ParseIdentities(tempFile(t, "id", text), nil)
	if err != nil || len(ids) != 2 {
		t.Fatalf("%d identities: %v", len(ids), err)
	}
	for _, p := range []person{a, b} {
		if _, _, err := Unwrap([]Slot{recipientSlot(t, testKey(1), p.to)}, ids, nil); err != nil {
			t.Error(err)
		}
	}
	for name, c := range map[string]struct{ text, says string }{
		"empty":      {"", "holds no identity"},
		"seal key":   {"# c\n" + testKey(1).encode(), "line 2: this is a seal key, not an identity"},
		"recipient":  {a.to.Public, "line 1: this is a public key"},
		"plugin":     {"AGE-PLUGIN-YUBIKEY-1QQQ", "plugin"},
		"typo":       {"AGE-SECRET-KEY-1QQQQSECRET", "line 1: malformed"},
		"rubbish":    {"hunter2SECRET", "line 1: not an identity"},
		"broken PEM": {"-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET\n", "SSH private key"},
	} {
		_, err := ParseIdentities(tempFile(t, "id", c.text), nil)
		if fault.KindOf(err) != fault.WrongKey || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v quotes the file", name, err)
		}
	}
	if _, err := ParseIdentities("/no/such/file", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestEncryptedIdentityFile(t *testing.T) {
	a := newX25519(t)
	r, _ := age.NewScryptRecipient("pass")
	r.SetWorkFactor(testWorkFactor)
	armored := encrypted(t, TypeAge, []byte(a.id.(*age.X25519Identity).String()+"\n"), r).Data
	binary, err := dearmor(armored)
	if err != nil {
		t.Fatal(err)
	}
	toRecipient := encrypted(t, TypeAge, nil, a.to.age).Data
	for name, c := range map[string]struct {
		file, pass string
		opens      bool
	}{
		"armored":          {armored, "pass", true},
		"binary":           {string(binary), "pass", true},
		"wrong passphrase": {armored, "word", false},
		"empty passphrase": {armored, "", false},
		"cut":              {armored[:100], "pass", false},
		"for a recipient":  {toRecipient, "pass", false},
		"not age at all":   {armor.Header + "\nAAAA\n" + armor.Footer, "pass", false},
	} {
		ids, err := ParseIdentities(tempFile(t, "id.age", c.file), func(string) (string, error) { return c.pass, nil })
		if (err == nil) != c.opens || (len(ids) == 1) != c.opens {
			t.Errorf("%s: %d identities: %v", name, len(ids), err)
		}
	}
	if _, err := ParseIdentities(tempFile(t, "id.age", armored), nil); fault.KindOf(err) != fault.WrongKey {
		t.Errorf("nobody to ask: %v", err)
	}
}
