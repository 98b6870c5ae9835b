package main

import (
	"strconv"

	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
)

// optionalString and optionalInt are flags that know whether they were given.
type optionalString struct{ p **string }

func (o optionalString) Set(s string) error { *o.p = &s; return nil }
func (o optionalString) Type() string       { return "string" }
func (o optionalString) String() string     { return "" }

type optionalInt struct{ p **int }

func (o optionalInt) Set(s string) error {
	n, err := strconv.Atoi(s)
	*o.p = &n
	return err
}
func (o optionalInt) Type() string   { return "int" }
func (o optionalInt) String() string { return "" }

// password says where a passphrase comes from.
type password struct {
	keys.PassphraseSource
	ask bool // at the terminal
}

// register adds the flags. The flag for the passphrase itself, which other
// users can see, exists without a prefix only: the original tool has it.
func (p *password) register(f *pflag.FlagSet, prefix, what string) {
	f.Var(optionalString{&p.File}, prefix+"password-file", "read "+what+" from `FILE`")
	f.Var(optionalString{&p.Command}, prefix+"password-command", "run `COMMAND`, without a shell, and take what it prints as "+what)
	f.Var(optionalInt{&p.FD}, prefix+"password-fd", "read "+what+" from the open file descriptor `N`")
	f.BoolVar(&p.ask, prefix+"ask-password", false, "ask for "+what+" at the terminal")
	if prefix == "" {
		f.Var(optionalString{&p.Flag}, "password", what+" itself, `PASSWORD`; other users see it in the list of processes")
	}
}

// given reports whether an option names a source.
func (p *password) given() bool {
	return p.ask || p.File != nil || p.Command != nil || p.FD != nil || p.Flag != nil
}

// read returns the passphrase from the source that the options name, else from
// the environment or the terminal, and tells warn what keys warns of.
func (p *password) read(prompt string, confirm bool, warn func(string, ...any)) (string, error) {
	if p.ask {
		if p.File != nil || p.Command != nil || p.FD != nil || p.Flag != nil {
			return "", fault.New(fault.Usage, "--ask-password and another password option exclude each other").WithHint("give one of them")
		}
		return keys.AskPassphrase(prompt, confirm)
	}
	pass, warning, err := p.Read(prompt, confirm)
	if warning != "" {
		warn("%s", warning)
	}
	return pass, err
}
