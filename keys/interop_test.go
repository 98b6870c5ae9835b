//go:build interop

package keys

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"filippo.io/age"
)

// ageVersion is the release of the real tool that slots are exchanged with.
const ageVersion = "v1.3.2"

// ageTool builds the real age commands and returns a function that runs age.
func ageTool(t *testing.T) func(stdin string, env []string, args ...string) []byte {
	t.Helper()
	bin := t.TempDir()
	for _, cmd := range []string{"age", "age-plugin-batchpass"} {
		install := exec.Command("go", "install", "filippo.io/age/cmd/"+cmd+"@"+ageVersion)
		install.Env = append(os.Environ(), "GOBIN="+bin, "GOFLAGS=")
		install.Dir = bin // outside this module
		if out, err := install.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", cmd, err, out)
		}
	}
	return func(stdin string, env []string, args ...string) []byte {
		t.Helper()
		name := "age"
		if runtime.GOOS == "windows" {
			name = "age.exe"
		}
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Env = append(append(os.Environ(), "PATH="+bin), env...)
		cmd.Stdin = strings.NewReader(stdin)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Run(); err != nil {
			t.Fatalf("age %s: %v\n%s", strings.Join(args, " "), err, &stderr)
		}
		return stdout.Bytes()
	}
}

// TestSlotsAndAge: the real age opens our slots, and we open what it wrote.
func TestSlotsAndAge(t *testing.T) {
	run := ageTool(t)
	k := NewSealKey()
	sshPublic, sshPrivate := sshKey(t, newEd25519(t), "")
	rsaPublic, rsaPrivate := sshKey(t, newRSA(t), "")
	x, h := newX25519(t), newHybrid(t)
	for name, c := range map[string]struct{ public, identity string }{
		"X25519":       {x.to.Public, x.id.(*age.X25519Identity).String() + "\n"},
		"post-quantum": {h.to.Public, h.id.(*age.HybridIdentity).String() + "\n"},
		"ssh-ed25519":  {sshPublic, string(sshPrivate)},
		"ssh-rsa":      {rsaPublic, string(rsaPrivate)},
	} {
		t.Run(name, func(t *testing.T) {
			identity := tempFile(t, "identity", c.identity)
			to, err := ParseRecipients(c.public)
			if err != nil {
				t.Fatal(err)
			}
			slot := recipientSlot(t, k, to...)
			if got := run(slot.Data, nil, "-d", "-i", identity); !bytes.Equal(got, k[:]) {
				t.Error("age decrypts our slot to something else")
			}
			data := string(run(string(k[:]), nil, "-a", "-r", c.public))
			theirs := Slot{ID: "theirs", Type: TypeAge, Data: data}
			ids, err := ParseIdentities(identity, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, _, err := Unwrap([]Slot{theirs}, ids, nil); err != nil || got != k {
				t.Errorf("opening what age wrote: %v", err)
			}
		})
	}
	t.Run("passphrase", func(t *testing.T) {
		env := []string{"AGE_PASSPHRASE=päss wörd", "AGE_PASSPHRASE_WORK_FACTOR=10"}
		if got := run(passphraseSlot(t, k, "päss wörd").Data, env, "-d", "-j", "batchpass"); !bytes.Equal(got, k[:]) {
			t.Error("age decrypts our slot to something else")
		}
		data := string(run(string(k[:]), env, "-e", "-a", "-j", "batchpass"))
		theirs := Slot{ID: "theirs", Type: TypePassphrase, Data: data}
		if got, _, err := Unwrap([]Slot{theirs}, nil, say("päss wörd")); err != nil || got != k {
			t.Errorf("opening what age wrote: %v", err)
		}
	})
	t.Run("identity file encrypted by age", func(t *testing.T) {
		env := []string{"AGE_PASSPHRASE=p", "AGE_PASSPHRASE_WORK_FACTOR=10"}
		file := run(x.id.(*age.X25519Identity).String()+"\n", env, "-e", "-j", "batchpass")
		ids, err := ParseIdentities(tempFile(t, "id.age", string(file)), func(string) (string, error) { return "p", nil })
		if err != nil {
			t.Fatal(err)
		}
		if got, _, err := Unwrap([]Slot{recipientSlot(t, k, x.to)}, ids, nil); err != nil || got != k {
			t.Error(err)
		}
	})
}
