package keys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestKeyFileRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "seal.key")
	k := NewSealKey()
	if err := WriteKeyFile(path, k, "created 2026-11-23", "two\nlines"); err != nil {
		t.Fatal(err)
	}
	data, _ := os.ReadFile(path)
	want := "# created 2026-11-23\n# two\n# lines\n" + k.encode() + "\n"
	if string(data) != want {
		t.Errorf("wrote %q", data)
	}
	got, warning, err := ReadKeyFile(path)
	if err != nil || warning != "" || got != k {
		t.Errorf("read: %q %v", warning, err)
	}
	err = WriteKeyFile(path, NewSealKey())
	if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "exists already") {
		t.Errorf("replaced a key file: %v", err)
	}
	if again, _ := os.ReadFile(path); string(again) != want {
		t.Error("the key file changed")
	}
}

func TestKeyFileMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no mode bits")
	}
	path := filepath.Join(t.TempDir(), "seal.key")
	if err := WriteKeyFile(path, testKey(1)); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	for mode, warns := range map[fs.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		k, warning, err := ReadKeyFile(path)
		if err != nil || k != testKey(1) || (warning != "") != warns {
			t.Errorf("mode %o: %q %v", mode, warning, err)
		}
	}
}

func TestKeyFileErrors(t *testing.T) {
	good := testKey(1).encode()
	typo := strings.Replace(good, good[40:41], map[bool]string{true: "P", false: "Q"}[good[40] == 'Q'], 1)
	short := strings.ToUpper(bech32Encode(keyPrefix, make([]byte, 31)))
	for name, c := range map[string]struct {
		text, says string
	}{
		"empty":          {"", "holds no key"},
		"only comments":  {"# nothing\n\n", "holds no key"},
		"typo":           {"# c\n\n" + typo + "\n", "line 3: damaged seal key: the checksum"},
		"cut":            {good[:60], "line 1: damaged seal key"},
		"short key":      {short, "line 1: damaged seal key: the length"},
		"mixed case":     {good[:70] + strings.ToLower(good[70:]), "line 1: damaged seal key: upper and lower"},
		"two keys":       {good + "\n# c\n" + testKey(2).encode(), "line 3: a second key (the first is on line 1)"},
		"age identity":   {"AGE-SECRET-KEY-1QQQSECRET", "line 1: this is an age identity"},
		"pq identity":    {"AGE-SECRET-KEY-PQ-1QQQSECRET", "line 1: this is an age identity"},
		"age recipient":  {"age1qqqsecret", "line 1: this is a public key"},
		"ssh recipient":  {"ssh-ed25519 AAAA secret", "line 1: this is a public key"},
		"ssh key":        {"-----BEGIN OPENSSH PRIVATE KEY-----\nSECRET", "line 1: this is a PEM or age file"},
		"something else": {"hunter2secret\n", "line 1: not a seal key"},
		"long line":      {strings.Repeat("Z", 1<<17), "line 1: not a seal key"},
		"binary":         {"\x00\x01\xff", "line 1: not a seal key"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := ReadKeyFile(path)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
				t.Fatalf("error %v, want %q", err, c.says)
			}
			if fault.KindOf(err) != fault.WrongKey || fault.HintOf(err) == "" {
				t.Errorf("kind %v, hint %q", fault.KindOf(err), fault.HintOf(err))
			}
			for _, secret := range []string{"SECRET", "secret", good[30:40]} {
				if strings.Contains(strings.TrimPrefix(err.Error(), "key file "+path), secret) {
					t.Errorf("%v quotes the file", err)
				}
			}
		})
	}
}

func TestKeyFileNotReadable(t *testing.T) {
	dir := t.TempDir()
	_, _, err := ReadKeyFile(filepath.Join(dir, "none"))
	if !errors.Is(err, fs.ErrNotExist) || fault.HintOf(err) == "" {
		t.Errorf("missing: %v", err)
	}
	if _, _, err = ReadKeyFile(dir); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("folder: %v", err)
	}
	big := filepath.Join(dir, "big")
	f, _ := os.Create(big)
	f.Truncate(1 << 40)
	f.Close()
	if _, _, err = ReadKeyFile(big); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("big: %v", err)
	}
	if err := WriteKeyFile(filepath.Join(big, "k"), testKey(1)); err == nil {
		t.Error("wrote into a folder that is none")
	}
}

func TestKeyFileTolerates(t *testing.T) {
	good := testKey(1).encode()
	for _, text := range []string{good, strings.ToLower(good), "\r\n# c\r\n" + good + "\r\n", "  " + good + "\t\n"} {
		if k, err := parseKeyFile("k", []byte(text)); err != nil || k != testKey(1) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(testKey(1).encode()))
	f.Add([]byte("# comment\n" + testKey(2).encode() + "\n"))
	f.Add([]byte("AGE-SECRET-KEY-1QQQ"))
	f.Add([]byte("\n\n\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseKeyFile("file", data)
		if err != nil {
			if fault.KindOf(err) == 0 {
				t.Error("an error without a kind")
			}
			return
		}
		again, err := parseKeyFile("file", marshalKeyFile(k, []string{"again"}))
		if err != nil || again != k {
			t.Errorf("written again, it reads differently: %v", err)
		}
	})
}
