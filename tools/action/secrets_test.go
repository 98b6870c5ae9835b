package action

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/neuroseal/neuroseal/hub/hubtest"
	"github.com/neuroseal/neuroseal/keys"
)

// TestSecrets: key and token reach the command, and nothing else: no log, no
// argument, no file that stays.
func TestSecrets(t *testing.T) {
	const hfToken = "hf_annannannannannannannannannannannan%41"
	s := hubtest.New()
	defer s.Close()
	s.AddUser("ann", hfToken)
	r := actionRunner(t, nil)
	record := filepath.Join(filepath.Dir(r.workspace), "record")
	r.env = append(r.env, "HF_ENDPOINT="+s.URL, "RECORD="+record)

	keyFile := filepath.Join(t.TempDir(), "key")
	if err := keys.WriteKeyFile(keyFile, keys.NewSealKey(), "of a test"); err != nil {
		t.Fatal(err)
	}
	partner, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key := read(t, keyFile)
	r.inputs = map[string]string{
		"model_path": model(t, r, "model"), "output_path": "sealed", "profile": "strong", "key": key, "token": hfToken,
		"recipients": "# partners\n" + partner.Recipient().String() + "\n\n", "push": "ann/sealed", "private": "true",
	}
	out := r.run(t)
	unharmed(t, r)
	if r.exitCode != 0 || out["key_file"] != "" || len(r.said) != 0 {
		t.Fatalf("exit status %d, key_file %q, said %q\n%s", r.exitCode, out["key_file"], r.said, r.log)
	}
	if exists, private := s.Private("ann/sealed"); !exists || !private {
		t.Errorf("published: %v, private: %v", exists, private)
	}
	if len(s.Content("ann/sealed", "main")) < 4 || !strings.Contains(r.summary, "ann/sealed") {
		t.Errorf("summary: %s", r.summary)
	}

	secret := strings.TrimSpace(key[strings.LastIndex(strings.TrimSpace(key), "\n")+1:])
	args := strings.Split(read(t, record), "\x00")
	for _, word := range []string{secret, hfToken} {
		if !slices.Contains(r.masks, word) {
			t.Error("a secret is not masked")
		}
		if strings.Contains(r.log, word) || strings.Contains(r.summary, word) {
			t.Error("a secret is in the log or the summary")
		}
		for i, a := range args {
			if strings.Contains(a, word) && a != "HF_TOKEN="+hfToken {
				t.Errorf("argument %d holds a secret", i)
			}
		}
		holds(t, filepath.Dir(r.workspace), word, record)
	}
	if !slices.Contains(args, "HF_TOKEN="+hfToken) {
		t.Error("the command did not get the token")
	}
	identity := filepath.Join(t.TempDir(), "id")
	if err := os.WriteFile(identity, []byte(partner.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{"--key-file=" + keyFile, "--identity=" + identity} {
		restored := filepath.Join(t.TempDir(), "restored")
		if msg, err := exec.Command(binary(t), "unlock", out["sealed_path"], restored, option).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, msg)
		}
		original := []byte(read(t, filepath.Join(r.workspace, "model/model.safetensors")))
		if !bytes.Equal(original, []byte(read(t, filepath.Join(restored, "model.safetensors")))) {
			t.Error("unlock does not restore the original")
		}
	}
}

// holds fails if a file below dir holds the word. What the runner itself wrote
// does not count.
func holds(t *testing.T, dir, word, except string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == except {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(word)) {
			t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestJobToken: without the input, the job's own token is used.
func TestJobToken(t *testing.T) {
	r := actionRunner(t, nil)
	record := filepath.Join(filepath.Dir(r.workspace), "record")
	r.env = append(r.env, "HF_TOKEN=hf_job", "RECORD="+record)
	r.inputs = map[string]string{"model_path": model(t, r, "model"), "output_path": "sealed"}
	r.run(t)
	if r.exitCode != 0 || !strings.Contains(read(t, record), "HF_TOKEN=hf_job") {
		t.Errorf("exit status %d, %q", r.exitCode, read(t, record))
	}
}

// TestHub: a private model of the hub becomes a sealed one there.
func TestHub(t *testing.T) {
	s := hubtest.New()
	defer s.Close()
	s.AddUser("ann", "hf_ann")
	files := map[string][]byte{}
	for _, name := range []string{"config.json", "generation_config.json", "model.safetensors", "README.md"} {
		files[name] = []byte(read(t, filepath.Join(repository(t), "internal/demo/model", name)))
	}
	s.AddRepo("ann/model", hubtest.RepoOptions{Private: true}, files)
	run := func(inputs map[string]string) (*runner, map[string]string) {
		r := actionRunner(t, inputs)
		r.env = append(r.env, "HF_ENDPOINT="+s.URL)
		out := r.run(t)
		unharmed(t, r)
		return r, out
	}
	r, out := run(map[string]string{"model_path": "ann/model", "output_path": "sealed", "token": "hf_ann", "verify": "run", "push": "ann/sealed"})
	if r.exitCode != 0 || !strings.Contains(r.summary, "Verification") {
		t.Fatalf("exit status %d\n%s", r.exitCode, r.log)
	}
	sealed := s.Content("ann/sealed", "main")
	if string(sealed["neuroseal_config.json"]) != read(t, out["manifest"]) || string(sealed["README.md"]) != read(t, out["card"]) {
		t.Error("what is published is not what was sealed")
	}
	if strings.Contains(r.log, "hf_ann") {
		t.Error("the token is in the log")
	}
	r, _ = run(map[string]string{"model_path": "ann/model", "output_path": "sealed"})
	if r.exitCode == 0 || len(r.said) != 1 || !strings.Contains(r.said[0], "ann/model") {
		t.Errorf("without a token: exit status %d, said %q", r.exitCode, r.said)
	}
}

// TestSign: the key signs, and stays where it is.
func TestSign(t *testing.T) {
	pem := read(t, filepath.Join(repository(t), "oms/testdata/keys/p256.pem"))
	r := actionRunner(t, nil)
	r.inputs = map[string]string{"model_path": model(t, r, "model"), "output_path": "sealed", "sign": pem}
	out := r.run(t)
	unharmed(t, r)
	if want := filepath.Join(r.workspace, "sealed", "model.sig"); r.exitCode != 0 || out["signature"] != want {
		t.Fatalf("exit status %d, signature %q, want %q\n%s", r.exitCode, out["signature"], want, r.log)
	}
	public := filepath.Join(repository(t), "oms/testdata/keys/p256.pub.pem")
	if msg, err := exec.Command(binary(t), "verify", out["sealed_path"], "--public-key", public).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, msg)
	}
	secret := strings.Split(strings.TrimSpace(pem), "\n")[1]
	holds(t, filepath.Dir(r.workspace), secret, "")
	if !slices.Contains(r.masks, secret) || strings.Contains(r.log, secret) {
		t.Error("the key is not masked")
	}
}
