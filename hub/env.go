package hub

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// publicEndpoint is the hub that everyone uses.
const publicEndpoint = "https://huggingface.co"

// Token is a credential of the hub. It prints as a placeholder, whatever verb or
// encoder is used; only this package reads what it holds.
type Token struct{ secret string }

const hidden = "[token]"

// NewToken returns the token s, trimmed; the zero Token if nothing is left.
// Whatever cannot be a token, because it holds spaces or control characters, is
// refused without being repeated.
func NewToken(s string) (Token, error) {
	s = strings.TrimSpace(s)
	for _, r := range s {
		if r <= ' ' || r >= 0x7f {
			return Token{}, fault.New(fault.Usage, "the hub token holds spaces or characters outside ASCII").
				WithHint("is it the whole content of a file, or a quoted string?")
		}
	}
	return Token{s}, nil
}

// Given reports whether there is a token.
func (t Token) Given() bool { return t.secret != "" }

// String hides the token.
func (t Token) String() string {
	if t.Given() {
		return hidden
	}
	return ""
}

// GoString hides the token from %#v.
func (t Token) GoString() string { return "hub.Token{" + t.String() + "}" }

// Format hides the token from every verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// MarshalText hides the token from JSON and other encoders.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue hides the token from log/slog.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Config is how to reach the hub and where its cache lies.
type Config struct {
	Endpoint string // address of the hub, without a slash at its end
	Token    Token
	Cache    string // folder of the cache, such as ~/.cache/huggingface/hub
	Offline  bool   // use what is in the cache, and nothing else
	Workers  int    // connections at once; 0 means 8

	// Notice is told what the user should know; nil: nobody is.
	Notice func(msg string)
	// Progress is shown how far a transfer has come; nil: nobody is.
	Progress Progress
}

// Progress is shown how far a transfer has come.
type Progress interface {
	// Stage begins a stage of total bytes.
	Stage(name string, total int64)
	// Add says that n more bytes are done. It may be called concurrently.
	Add(n int64)
}

// FromEnv reads the variables that huggingface_hub reads, in its order of
// precedence. getenv is os.Getenv, or a stand-in. flagToken is the value of a
// --token option: HF_TOKEN wins over it, it wins over the token file. A second
// result that is not empty is a warning for the user.
func FromEnv(getenv func(string) string, flagToken string) (Config, string, error) {
	home := expand(getenv, getenv("HF_HOME"))
	if home == "" {
		base := getenv("XDG_CACHE_HOME")
		if base == "" {
			base = filepath.Join(userHome(getenv), ".cache")
		}
		home = expand(getenv, filepath.Join(base, "huggingface"))
	}
	cfg := Config{Endpoint: strings.TrimRight(getenv("HF_ENDPOINT"), "/"), Workers: 8}
	if cfg.Endpoint == "" {
		cfg.Endpoint = publicEndpoint
	}
	cfg.Cache = expand(getenv, first(getenv("HF_HUB_CACHE"), getenv("HUGGINGFACE_HUB_CACHE"), filepath.Join(home, "hub")))
	cfg.Offline = truth(first(getenv("HF_HUB_OFFLINE"), getenv("TRANSFORMERS_OFFLINE")))
	warning := ""
	if flagToken != "" {
		warning = "--token shows the token to other users in the list of processes; set HF_TOKEN instead"
	}
	file := ""
	if !truth(getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		path := expand(getenv, first(getenv("HF_TOKEN_PATH"), filepath.Join(home, "token")))
		file = readTokenFile(path)
	}
	var err error
	cfg.Token, err = NewToken(first(strings.TrimSpace(getenv("HF_TOKEN")), getenv("HUGGING_FACE_HUB_TOKEN"), flagToken, file))
	if err == nil {
		_, err = parseEndpoint(cfg.Endpoint)
	}
	return cfg, warning, err
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// truth reads a switch as huggingface_hub does.
func truth(s string) bool {
	switch strings.ToUpper(s) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

func userHome(getenv func(string) string) string {
	if h := first(getenv("HOME"), getenv("USERPROFILE")); h != "" {
		return h
	}
	h, _ := os.UserHomeDir()
	return h
}

// expand resolves ~ and $VARIABLES as Python's expanduser and expandvars do.
func expand(getenv func(string) string, path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") || strings.HasPrefix(path, `~\`) {
		path = userHome(getenv) + path[1:]
	}
	return os.Expand(path, func(name string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return "$" + name
	})
}

// maxToken bounds what is read of a token file, in bytes.
const maxToken = 1 << 12

// readTokenFile returns the token in a file, "" if there is none.
func readTokenFile(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// parseEndpoint demands an http address without credentials in it, which would
// end up in messages.
func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, fault.New(fault.Usage, "HF_ENDPOINT is not an address")
	case u.User != nil:
		return nil, fault.New(fault.Usage, "HF_ENDPOINT holds a user name or password").WithHint("set HF_TOKEN instead")
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, fault.New(fault.Usage, "HF_ENDPOINT %q is not an address like %s", s, publicEndpoint)
	}
	return u, nil
}

// loopback reports whether a host is this machine, to which even plain http
// carries a token safely.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
