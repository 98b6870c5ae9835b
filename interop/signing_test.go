//go:build interop

package interop_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// signingJob is a job of signing.py.
type signingJob struct {
	Model       string   `json:"model"`
	Signature   string   `json:"signature"`
	PrivateKey  string   `json:"private_key,omitempty"`
	Password    string   `json:"password,omitempty"`
	Certificate string   `json:"certificate,omitempty"`
	Chain       []string `json:"chain,omitempty"`
	PublicKey   string   `json:"public_key,omitempty"`
	Roots       []string `json:"roots,omitempty"`
}

// reference lets model_signing do jobs; each answer is "" or why it refused.
func (s *shared) reference(t *testing.T, jobs []signingJob) []string {
	t.Helper()
	data, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "jobs.json")
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
	out, err := s.runPython("signing.py", file)
	if err != nil {
		t.Fatal(err)
	}
	var answers []string
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &answers); err != nil || len(answers) != len(jobs) {
		t.Fatalf("%v: %s", err, out)
	}
	return answers
}

// needSigning skips where the reference is not installed.
func needSigning(t *testing.T) *shared {
	s := needPython(t)
	if err := exec.Command(s.python, "-c", "import model_signing, OpenSSL").Run(); err != nil {
		t.Skip("this Python has no model-signing with pyOpenSSL; requirements.txt names them")
	}
	return s
}

func omsFixture(parts ...string) string {
	return filepath.Join(append([]string{"..", "oms", "testdata"}, parts...)...)
}

func omsKey(name string) string         { return omsFixture("keys", name+".pem") }
func omsCertificate(name string) string { return omsFixture("certificates", name+".pem") }

// signingModel copies the small model, or seals one.
func signingModel(t *testing.T, s *shared, sealed bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if sealed {
		s.neuroseal(t, "lock", filepath.Join("..", "arch", "testdata", "qwen2"), dir, "--key-file", s.key, "-q")
	} else if err := os.CopyFS(dir, os.DirFS(omsFixture("model"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// spoil are the ways in which a model is tampered with.
var spoil = map[string]func(dir string) error{
	"changed": func(dir string) error {
		f, err := os.OpenFile(filepath.Join(dir, "config.json"), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte(" "), 0)
		return err
	},
	"added":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "run.py"), nil, 0o666) },
	"removed": func(dir string) error { return os.Remove(filepath.Join(dir, "config.json")) },
	"renamed": func(dir string) error {
		return os.Rename(filepath.Join(dir, "config.json"), filepath.Join(dir, "konfig.json"))
	},
}

// TestReferenceVerifiesOurs: model_signing accepts what neuroseal signs, with
// every curve and with certificates, sealed or not, and refuses it once the
// model has been changed or another key is expected.
func TestReferenceVerifiesOurs(t *testing.T) {
	s := needSigning(t)
	var jobs []signingJob
	var want []string // "" or what is wrong
	ask := func(what string, j signingJob) { jobs, want = append(jobs, j), append(want, what) }
	for _, key := range []string{"p256", "p384", "p521"} {
		dir := signingModel(t, s, key == "p256")
		sig := filepath.Join(dir, "model.sig")
		s.neuroseal(t, "sign", dir, "--key", omsKey(key), "-q")
		ask("", signingJob{Model: dir, Signature: sig, PublicKey: omsKey(key + ".pub")})
		ask("another key", signingJob{Model: dir, Signature: sig, PublicKey: omsKey("other.pub")})
		for name, change := range spoil {
			bad := filepath.Join(t.TempDir(), "model")
			if err := os.CopyFS(bad, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := change(bad); err != nil {
				t.Fatal(err)
			}
			ask(name, signingJob{Model: bad, Signature: filepath.Join(bad, "model.sig"), PublicKey: omsKey(key + ".pub")})
		}
	}
	// lock --sign, with a certificate; the manifest alone; a file.
	locked := filepath.Join(t.TempDir(), "locked")
	s.neuroseal(t, "lock", filepath.Join("..", "arch", "testdata", "qwen2"), locked, "--key-file", s.key, "-q",
		"--sign", omsKey("p256"), "--sign-cert", omsCertificate("leaf"), "--sign-chain", omsCertificate("intermediate"))
	ask("", signingJob{Model: locked, Signature: filepath.Join(locked, "model.sig"), Roots: []string{omsCertificate("root")}})
	ask("another root", signingJob{Model: locked, Signature: filepath.Join(locked, "model.sig"), Roots: []string{omsCertificate("other-root")}})
	man := filepath.Join(locked, "neuroseal_config.json")
	s.neuroseal(t, "sign", man, "--key", omsKey("p256"), "-q")
	ask("", signingJob{Model: man, Signature: man + ".sig", PublicKey: omsKey("p256.pub")})
	// Keyslots changed, and signed anew.
	s.neuroseal(t, "key", "add", locked, "--key-file", s.key, "--recipient", "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p", "--sign", omsKey("p256"), "-q")
	ask("", signingJob{Model: man, Signature: man + ".sig", PublicKey: omsKey("p256.pub")})
	ask("", signingJob{Model: locked, Signature: filepath.Join(locked, "model.sig"), Roots: []string{omsCertificate("root")}})

	for i, got := range s.reference(t, jobs) {
		if (got == "") != (want[i] == "") {
			t.Errorf("%+v: %q, want %q", jobs[i], got, want[i])
		}
	}
}

// TestWeVerifyTheReference: what model_signing signs fits, and no longer does
// once the model has been changed.
func TestWeVerifyTheReference(t *testing.T) {
	s := needSigning(t)
	type signed struct {
		dir   string
		trust []string
	}
	var jobs []signingJob
	var list []signed
	for _, key := range []string{"p256", "p384", "p521", "p256-encrypted"} {
		dir := signingModel(t, s, key == "p384")
		j := signingJob{Model: dir, Signature: filepath.Join(dir, "model.sig"), PrivateKey: omsKey(key)}
		if key == "p256-encrypted" {
			j.Password = "correct horse"
		}
		jobs = append(jobs, j)
		list = append(list, signed{dir, []string{"--public-key", omsKey(strings.TrimSuffix(key, "-encrypted") + ".pub")}})
	}
	dir := signingModel(t, s, false)
	jobs = append(jobs, signingJob{
		Model: dir, Signature: filepath.Join(dir, "model.sig"), PrivateKey: omsKey("p256"),
		Certificate: omsCertificate("leaf"), Chain: []string{omsCertificate("intermediate")},
	})
	list = append(list, signed{dir, []string{"--cert-roots", omsCertificate("root")}})
	for i, why := range s.reference(t, jobs) {
		if why != "" {
			t.Fatalf("%+v: %s", jobs[i], why)
		}
	}
	for _, x := range list {
		s.neuroseal(t, append([]string{"verify", x.dir}, x.trust...)...)
		for name, change := range spoil {
			bad := filepath.Join(t.TempDir(), "model")
			if err := os.CopyFS(bad, os.DirFS(x.dir)); err != nil {
				t.Fatal(err)
			}
			if err := change(bad); err != nil {
				t.Fatal(err)
			}
			err := exec.Command(s.command, append([]string{"verify", bad}, x.trust...)...).Run()
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 13 {
				t.Errorf("%s, %s: %v, want exit code 13", x.trust, name, err)
			}
		}
		if err := exec.Command(s.command, "verify", x.dir, "--public-key", omsKey("other.pub")).Run(); err == nil {
			t.Errorf("%s: another key is accepted", x.dir)
		}
	}
}
